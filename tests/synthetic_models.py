"""Small ONNX models whose answers a test can foretell, and repositories of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import yaml
from onnx import TensorProto, helper

_ELEMENTS = {
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "BOOL": TensorProto.BOOL,
    "BYTES": TensorProto.STRING,
}


def constant(value: float, *, reads: str = "x", gives: str = "score") -> onnx.ModelProto:
    """`value` for every row, whatever is read."""
    nodes = [
        helper.make_node("Mul", [reads, "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "value"], [gives]),
    ]
    return _model(nodes, [_column(reads, "FP32")], [_column(gives, "FP32")], zero=0.0, value=value)


def logistic(weights: Mapping[str, float], *, gives: str = "score") -> onnx.ModelProto:
    """Sigmoid of the weighted sum of the named inputs, each FP32 of shape [rows, 1]."""
    nodes, sums = [], []
    for name in weights:
        nodes.append(helper.make_node("Mul", [name, f"weight_{name}"], [f"part_{name}"]))
        sums.append(f"part_{name}")
    nodes.append(helper.make_node("Sum", sums, ["sum"]))
    nodes.append(helper.make_node("Sigmoid", ["sum"], [gives]))
    inputs = [_column(name, "FP32") for name in weights]
    constants = {f"weight_{name}": weight for name, weight in weights.items()}
    return _model(nodes, inputs, [_column(gives, "FP32")], **constants)


def echo(*datatypes: str) -> onnx.ModelProto:
    """Gives each of its inputs `in_<datatype>` back as `out_<datatype>`; all of them for none."""
    names = {datatype.lower(): datatype for datatype in datatypes or _ELEMENTS}
    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in names]
    return _model(
        nodes,
        [_column(f"in_{name}", datatype) for name, datatype in names.items()],
        [_column(f"out_{name}", datatype) for name, datatype in names.items()],
    )


def tumours() -> onnx.ModelProto:
    """The README's endpoint in small: `label` and two `probabilities` of 30 `features`."""
    nodes = [
        helper.make_node("ReduceMean", ["features"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Sigmoid", ["mean"], ["bad"]),
        helper.make_node("Sub", ["one", "bad"], ["good"]),
        helper.make_node("Concat", ["good", "bad"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 30])
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
    ]
    return _model(nodes, [features], outputs, one=1.0)


def write_endpoint(
    models: Path,
    endpoint: str,
    versions: Mapping[str, onnx.ModelProto],
    settings: Mapping[str, object] | None = None,
) -> None:
    """`models/<endpoint>/<version>/model.onnx` for each version, and the endpoint file."""
    for version, model in versions.items():
        write_model(models / endpoint / version / "model.onnx", model)
    if settings is not None:
        (models / endpoint / "endpoint.yaml").write_text(yaml.safe_dump(dict(settings)))


def write_model(path: Path, model: onnx.ModelProto) -> Path:
    """Write one file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def _column(name: str, datatype: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _ELEMENTS[datatype], [None, 1])


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    **constants: float,
) -> onnx.ModelProto:
    initializers = [
        helper.make_tensor(name, TensorProto.FLOAT, [1], [value])
        for name, value in constants.items()
    ]
    graph = helper.make_graph(nodes, "synthetic", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
