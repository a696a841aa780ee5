"""ONNX models for tests, made node by node: good ones, odd ones and hostile ones.

Every builder gives the bytes of a file. Shapes begin with a dynamic dimension `rows` unless
the name says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gateway.core.routes import VersionFacts
from gateway.core.tensors import Signature, TensorSpec, datatype_of_onnx
from gateway.runtimes.onnx import OnnxModel, open_session
from gateway.runtimes.repository import MODEL_FILE, ModelRepository

ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
_FLOAT = TensorProto.FLOAT
_ROWS = ["rows"]


def linear(weights: Sequence[float] = (1.0, 2.0, 3.0), *, output: str = "y") -> bytes:
    """y[rows] = x[rows, n] · weights."""
    kernel = helper.make_tensor("w", _FLOAT, [len(weights)], list(weights))
    node = helper.make_node("MatMul", ["x", "w"], [output])
    return _file([node], [_x(len(weights))], [_value(output, _FLOAT, _ROWS)], [kernel])


def constant(value: float = 0.25, *, output: str = "y") -> bytes:
    """y[rows] = value, whatever x[rows, 3] is; infinity and NaN are values too."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=0),
        helper.make_node("Shape", ["m"], ["s"]),
        helper.make_node(
            "ConstantOfShape", ["s"], [output], value=helper.make_tensor("v", _FLOAT, [1], [value])
        ),
    ]
    return _file(nodes, [_x(3)], [_value(output, _FLOAT, _ROWS)])


def inverse() -> bytes:
    """y[rows] = 1 / x[rows, 1]: infinite for the zeros that a trial run feeds."""
    nodes = [
        helper.make_node("Reciprocal", ["x"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["y"], axes=[1], keepdims=0),
    ]
    return _file(nodes, [_x(1)], [_value("y", _FLOAT, _ROWS)])


def identity(datatype: str, *, shape: Sequence[Any] = ("rows", 2)) -> bytes:
    """y = x of one datatype."""
    kind = ONNX_TYPES[datatype]
    node = helper.make_node("Identity", ["x"], ["y"])
    return _file([node], [_value("x", kind, shape)], [_value("y", kind, shape)])


def pair(*, outputs: tuple[str, str] = ("total", "product")) -> bytes:
    """total[rows] = a + b and product[rows] = a · b of a[rows] and b[rows]."""
    nodes = [
        helper.make_node("Add", ["a", "b"], [outputs[0]]),
        helper.make_node("Mul", ["a", "b"], [outputs[1]]),
    ]
    inputs = [_value(name, _FLOAT, _ROWS) for name in "ab"]
    return _file(nodes, inputs, [_value(name, _FLOAT, _ROWS) for name in outputs])


def loop(*, rounds: int = 2**62, shape: Sequence[Any] = ("rows", 3)) -> bytes:
    """y = x after `rounds` additions of zero; 2^62 of them never end."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["more"], ["still"]),
            helper.make_node("Add", ["before", "zero"], ["after"]),
        ],
        "body",
        [
            _value("i", TensorProto.INT64, []),
            _value("more", TensorProto.BOOL, []),
            _value("before", _FLOAT, None),
        ],
        [_value("still", TensorProto.BOOL, []), _value("after", _FLOAT, None)],
        [helper.make_tensor("zero", _FLOAT, [1], [0.0])],
    )
    node = helper.make_node("Loop", ["rounds", "go", "x"], ["y"], body=body)
    constants = [
        helper.make_tensor("rounds", TensorProto.INT64, [], [rounds]),
        helper.make_tensor("go", TensorProto.BOOL, [], [True]),
    ]
    return _file([node], [_value("x", _FLOAT, shape)], [_value("y", _FLOAT, shape)], constants)


def loop_while_positive() -> bytes:
    """y = x; ends at once for the zeros of a trial run, and never for a positive sum."""
    model = onnx.load_model_from_string(loop())
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "nothing"], ["positive"]),
    ]
    model.graph.node[0].input[1] = "positive"
    model.graph.node[0].attribute[0].g.node[0].input[0] = "positive"
    model.graph.initializer.append(helper.make_tensor("nothing", _FLOAT, [], [0.0]))
    for at, node in enumerate(nodes):
        model.graph.node.insert(at, node)
    return bytes(model.SerializeToString())


def refuses_zeros() -> bytes:
    """y = x of x[rows, 3], but an index out of range where the sum of x is 0."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "nothing"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["one"], to=TensorProto.INT64),
        helper.make_node("Sub", ["five", "one"], ["at"]),
        helper.make_node("Gather", ["five_zeros", "at"], ["zero"]),
        helper.make_node("Add", ["x", "zero"], ["y"]),
    ]
    constants = [
        helper.make_tensor("nothing", _FLOAT, [], [0.0]),
        helper.make_tensor("five", TensorProto.INT64, [], [5]),
        helper.make_tensor("five_zeros", _FLOAT, [5], [0.0] * 5),
    ]
    return _file([*nodes], [_x(3)], [_value("y", _FLOAT, ["rows", 3])], constants)


def huge(*, gibibytes: int = 256) -> bytes:
    """A file of a few hundred bytes that asks for far more memory than there is."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["big"]),
        helper.make_node("ReduceMax", ["big"], ["most"], keepdims=0),
        helper.make_node("Add", ["x", "most"], ["y"]),
    ]
    size = helper.make_tensor("size", TensorProto.INT64, [1], [gibibytes << 28])
    value = _value("x", _FLOAT, [1, 3]), _value("y", _FLOAT, [1, 3])
    return _file(nodes, [value[0]], [value[1]], [size])


def one_row_only() -> bytes:
    """y[1] of x[1, 3]: an exporter that fixed the batch at one."""
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)
    return _file([node], [_value("x", _FLOAT, [1, 3])], [_value("y", _FLOAT, [1])])


def looks_across_rows() -> bytes:
    """y[rows] = x · w minus its mean over the rows: wrong in batches, though it runs."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["raw"]),
        helper.make_node("ReduceMean", ["raw"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["raw", "mean"], ["y"]),
    ]
    kernel = helper.make_tensor("w", _FLOAT, [3], [1.0, 2.0, 3.0])
    return _file(nodes, [_x(3)], [_value("y", _FLOAT, _ROWS)], [kernel])


def sequence_output() -> bytes:
    """An output that no tensor can carry: a sequence."""
    node = helper.make_node("SequenceConstruct", ["x"], ["y"])
    output = helper.make_tensor_sequence_value_info("y", _FLOAT, None)
    return _file([node], [_x(3)], [output])


def map_output() -> bytes:
    """What scikit-learn exporters give by default: a sequence of maps (ZipMap)."""
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    label = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(_FLOAT, None)
    )
    output = helper.make_value_info("y", helper.make_sequence_type_proto(label))
    return _file([node], [_value("x", _FLOAT, ["rows", 2])], [output])


def external(location: str) -> bytes:
    """`linear` with its three weights in a file beside it, at `location`."""
    model = onnx.load_model_from_string(linear())
    _put_outside(model.graph.initializer[0], location)
    return bytes(model.SerializeToString())


def external_in_branch(location: str) -> bytes:
    """The weights stand in a branch of an If, as a constant node's tensor."""
    weight = helper.make_tensor("w", _FLOAT, [3], [0.0] * 3)
    _put_outside(weight, location)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weight),
        helper.make_node("MatMul", ["x", "w"], ["branch"]),
    ]
    branch = helper.make_graph(nodes, "branch", [], [_value("branch", _FLOAT, None)])
    node = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    return _file([node], [_x(3)], [_value("y", _FLOAT, _ROWS)], [yes])


def external_sparse(location: str) -> bytes:
    """The weights stand in a sparse initializer."""
    model = onnx.load_model_from_string(linear())
    weight = model.graph.initializer.pop()
    _put_outside(weight, location)
    indices = numpy_helper.from_array(np.arange(3, dtype=np.int64), "indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(weight, indices, [3]))
    return bytes(model.SerializeToString())


def weights_file(path: Path) -> Path:
    """The three weights 1, 2, 3 that the external models read."""
    path.write_bytes(np.array([1, 2, 3], dtype="<f4").tobytes())
    return path


def put(root: Path, endpoint: str, version: str, content: bytes) -> Path:
    """The model file of a version in the repository at `root`."""
    path = root / endpoint / version / MODEL_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def ramp(rows: int, columns: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """0, 1, 2, … in rows."""
    return np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)


def facts_in(
    root: Path, endpoint: str, version: str, content: bytes, *, inline: bool = True
) -> VersionFacts:
    """The facts of a version that is put there: what an inspection says, without its child."""
    path = put(root, endpoint, version, content)
    session = open_session(content, folder=path.parent)
    inputs, outputs = (
        tuple(TensorSpec(n.name, datatype_of_onnx(n.type), _dims(n.shape)) for n in nodes)
        for nodes in (session.get_inputs(), session.get_outputs())
    )
    return VersionFacts(
        version=version,
        digest=sha256(content).hexdigest(),
        path=str(path.relative_to(root)),
        signature=Signature(inputs, outputs),
        batches=all(spec.has_rows for spec in (*inputs, *outputs)),
        inline=inline,
    )


def _dims(shape: Sequence[Any]) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else -1 for dim in shape)


def loaded(root: Path, facts: VersionFacts) -> OnnxModel:
    """The model as a worker holds it."""
    content, folder = ModelRepository(root).read(facts)
    return OnnxModel(facts, content, folder=folder)


def _put_outside(tensor: TensorProto, location: str) -> None:
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location


def _x(columns: int) -> onnx.ValueInfoProto:
    return _value("x", _FLOAT, ["rows", columns])


def _value(name: str, kind: int, shape: Sequence[Any] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _file(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[TensorProto] = (),
) -> bytes:
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), list(initializers))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())
