"""What is learned of one model file: its signature, and what a trial run on made-up rows shows.

Runs in a child process under limits (inspector.py), never in one that answers clients: the
file is a stranger's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from gateway.core.routes import ClassName
from gateway.core.tensors import Signature, TensorSpec, datatype_of_onnx
from gateway.errors import InvalidModel
from gateway.runtimes.digest import version_digest
from gateway.runtimes.inspection import Inspection
from gateway.runtimes.onnx import example_inputs, open_session

MEMORY_BYTES = 8 << 30


def try_file(path: Path) -> Inspection:
    """Load the model and run it on made-up rows. Raises InvalidModel with the reason."""
    content = path.read_bytes()
    if not content:
        raise InvalidModel("the file is empty")
    model = _parsed(content)
    inline, external = _check_graph(path, model)
    session = open_session(content, folder=path.parent)
    signature = Signature(
        inputs=tuple(_spec("input", node) for node in session.get_inputs()),
        outputs=tuple(_spec("output", node) for node in session.get_outputs()),
    )
    _try_one_row(session, signature)
    return Inspection(
        digest=version_digest(content, folder=path.parent, external=external),
        signature=signature,
        batches=_batches(session, signature),
        inline=inline,
        external=external,
        classes=_classes(model),
        squashed=_squashed(model),
    )


def _spec(kind: str, node: Any) -> TensorSpec:
    if not node.type.startswith("tensor("):
        raise InvalidModel(
            f"{kind} {node.name} has type {node.type}, which the Open Inference Protocol cannot "
            "carry; export the model to give plain tensors (for scikit-learn with skl2onnx: "
            "options={'zipmap': False})"
        )
    try:
        datatype = datatype_of_onnx(node.type)
    except InvalidModel as error:
        raise InvalidModel(f"{kind} {node.name}: {error}") from None
    shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in node.shape)
    return TensorSpec(name=node.name, datatype=datatype, shape=shape)


def _parsed(content: bytes) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:
        raise InvalidModel("the file is no ONNX model (it cannot be parsed)") from error


def _classes(model: onnx.ModelProto) -> tuple[ClassName, ...]:
    """The classes that a classifier's node names, in the order of its columns."""
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "classlabels_strings" and attribute.strings:
                return tuple(text.decode(errors="replace") for text in attribute.strings)
            if attribute.name in ("classlabels_int64s", "classlabels_ints") and attribute.ints:
                return tuple(attribute.ints)
    return ()


def _squashed(model: onnx.ModelProto) -> tuple[str, ...]:
    ends = {name: node.op_type for node in model.graph.node for name in node.output}
    names = [output.name for output in model.graph.output]
    return tuple(name for name in names if ends.get(name) in ("Sigmoid", "Softmax"))


def _check_graph(path: Path, model: onnx.ModelProto) -> tuple[bool, tuple[str, ...]]:
    """Whether the graph is free of control flow, and its files; refuses dangerous ones."""
    graphs, external = 0, set()
    for part in _parts(model):
        graphs += isinstance(part, onnx.GraphProto)
        if isinstance(part, onnx.TensorProto) and part.data_location == part.EXTERNAL:
            places = [entry.value for entry in part.external_data if entry.key == "location"]
            location = places[0] if places else ""
            _check_external(path.parent, location)
            external.add(location)
    return graphs == 1, tuple(sorted(external))


def _parts(message: Any) -> Iterator[Any]:
    """The message and every message in it, at any depth: nothing hides in a place we forgot."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for child in [value] if hasattr(value, "ListFields") else value:
                yield from _parts(child)


def _check_external(folder: Path, location: str) -> None:
    target = folder / location
    inside = not Path(location).is_absolute() and ".." not in Path(location).parts
    if not inside:
        raise InvalidModel(f"external data {location!r} lies outside the model's folder")
    if any(part.is_symlink() for part in (target, *target.parents) if folder in part.parents):
        raise InvalidModel(f"external data {location!r} is a symbolic link")
    if not target.is_file():
        raise InvalidModel(f"external data {location!r} is missing beside the model")
    if target.stat().st_nlink > 1:
        raise InvalidModel(f"external data {location!r} is a hard link to another file")


def _try_one_row(session: Any, signature: Signature) -> None:
    """A run that does not end or needs too much is found here, where it harms nobody."""
    try:
        session.run(None, example_inputs(signature.inputs, rows=1))
    except MemoryError:
        raise _too_large() from None
    except Exception as error:
        # A model may refuse made-up inputs and be fine with real ones.
        if "alloc" in str(error):
            raise _too_large() from None


def _too_large() -> InvalidModel:
    return InvalidModel(f"a run on one row asks for more than {MEMORY_BYTES >> 30} GiB of memory")


def _batches(session: Any, signature: Signature) -> bool:
    """Whether three rows in one run give what they give one by one, up to rounding."""
    specs = (*signature.inputs, *signature.outputs)
    if not signature.inputs or not all(s.shape and s.shape[0] < 0 for s in specs):
        return False
    feed = example_inputs(signature.inputs, rows=3, ramp=True)
    try:
        together = session.run(None, feed)
        alone = [session.run(None, {k: v[i : i + 1] for k, v in feed.items()}) for i in range(3)]
    except Exception:  # a model that refuses these inputs is simply not batched
        return False
    for index, whole in enumerate(together):
        rows = [run[index] for run in alone]
        if any(row.shape[:1] != (1,) for row in rows) or whole.shape[:1] != (3,):
            return False
        joined = np.concatenate(rows)
        if whole.dtype in (object, bool):
            same = bool((whole == joined).all())
        else:
            same = bool(np.allclose(whole, joined, rtol=1e-3, atol=1e-5, equal_nan=True))
        if not same:
            return False
    return True
