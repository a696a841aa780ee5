"""Looking at a model file that somebody handed us: in a child process, under limits.

A model of 163 bytes can ask for 256 GiB and one of 263 bytes can loop for ever, so nothing
of an unknown file is touched in a process that answers clients. The child prints one line of
JSON; whatever else happens to it is the model's fault and is said as such.

Run as `python -m gateway.runtimes.inspection FILE`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from gateway.core.routes import VersionFacts
from gateway.core.tensors import Signature, TensorSpec, datatype_of_onnx
from gateway.errors import AuditionError, InvalidModel
from gateway.runtimes.digest import version_digest

DEADLINE_S = 60
MEMORY_BYTES = 8 << 30


class Inspection(msgspec.Struct, frozen=True):
    """What the file says of itself, and what a trial run showed."""

    digest: str
    signature: Signature
    batches: bool
    inline: bool  # no node holds a graph of its own, as Loop, Scan and If do
    external: tuple[str, ...] = ()  # files beside the model that hold weights of it


def inspect_file(path: Path, *, deadline_s: float = DEADLINE_S) -> Inspection:
    """Inspect a model file in a child. Raises InvalidModel with the reason."""
    command = [sys.executable, "-m", "gateway.runtimes.inspection", str(path)]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, capture_output=True, timeout=deadline_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise InvalidModel(
            f"{path.name}: loading and one trial run took longer than {deadline_s:g} s"
        ) from None
    if done.returncode == 0:
        return msgspec.json.decode(done.stdout, type=Inspection)
    raise InvalidModel(f"{path.name}: {_reason(done)}")


def facts_of(path: Path, *, version: str, relative_to: Path) -> VersionFacts:
    """The facts of a version whose model file is `path`. Raises InvalidModel."""
    found = inspect_file(path)
    return VersionFacts(
        version=version,
        digest=found.digest,
        path=str(path.relative_to(relative_to)),
        signature=found.signature,
        batches=found.batches,
        inline=found.inline,
        external=found.external,
    )


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode == 1 and done.stdout:
        return str(json.loads(done.stdout)["error"])
    if done.returncode < 0:
        return f"the trial run was ended by signal {-done.returncode} (out of memory or time)"
    last = done.stderr.decode(errors="replace").strip().split("\n")[-1]
    return f"the trial run failed: {last[:300]}"


def _inspect(path: Path) -> Inspection:
    content = path.read_bytes()
    if not content:
        raise InvalidModel("the file is empty")
    inline, external = _check_graph(path, content)
    from gateway.runtimes.onnx import open_session  # noqa: PLC0415 - only in the child

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
    )


def _spec(kind: str, node: Any) -> TensorSpec:
    if not node.type.startswith("tensor("):
        raise InvalidModel(
            f"{kind} {node.name} has type {node.type}, which the Open Inference Protocol cannot "
            "carry; export the model to give plain tensors (for scikit-learn: zipmap=False)"
        )
    datatype = datatype_of_onnx(node.type)
    shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in node.shape)
    return TensorSpec(name=node.name, datatype=datatype, shape=shape)


def _check_graph(path: Path, content: bytes) -> tuple[bool, tuple[str, ...]]:
    """Whether the graph is free of control flow, and its files; refuses dangerous ones."""
    import onnx  # noqa: PLC0415 - only in the child

    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise InvalidModel("the file is no ONNX model (it cannot be parsed)") from error
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
    from gateway.runtimes.onnx import example_inputs  # noqa: PLC0415 - only in the child

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
    import numpy as np  # noqa: PLC0415 - only in the child

    from gateway.runtimes.onnx import example_inputs  # noqa: PLC0415 - only in the child

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


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (DEADLINE_S, DEADLINE_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(path: str) -> int:
    """The child: print the inspection, or `{"error": …}` and return 1."""
    _limit()
    try:
        sys.stdout.buffer.write(msgspec.json.encode(_inspect(Path(path))))
    except AuditionError as error:
        sys.stdout.write(json.dumps({"error": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
