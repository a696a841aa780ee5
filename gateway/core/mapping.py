"""How a version's own tensors stand for the endpoint's: done once, where the model is run.

Beyond the runtime every version of an endpoint looks alike: it reads the tensors that clients
send, and answers by the endpoint's names, with its classes in the endpoint's order. Journal,
shadow, judge and clients know of no mapping.

Rules: a `Mapping` was checked when it was made (binding.py), so what goes wrong here is a value
that the checks could not see: a number that the model's datatype cannot hold is InvalidInput,
a class that nobody declared is ModelFailed. A row stays a row.
"""

from __future__ import annotations

from collections.abc import Mapping as Map
from hashlib import sha256

import msgspec
import numpy as np

from gateway.core.tensors import DATATYPES, Array, Signature
from gateway.errors import InvalidInput, ModelFailed


class InputPart(msgspec.Struct, frozen=True):
    """A tensor of the request, or some of its columns, on the way into a model's input."""

    source: str
    columns: tuple[int, ...] | None = None  # None: all of it


class InputMap(msgspec.Struct, frozen=True):
    """What one input of the model is made of; several parts are joined column by column."""

    name: str
    parts: tuple[InputPart, ...]


class OutputMap(msgspec.Struct, frozen=True):
    """What one output of the endpoint is made of.

    `columns` are the source's, in the endpoint's order of classes. `codes` are the endpoint's
    numbers for this version's classes 0, 1, …; `texts` are the classes that stand for 0, 1, …
    """

    name: str
    source: str
    columns: tuple[int, ...] | None = None
    codes: tuple[int, ...] | None = None
    texts: dict[str, int] | None = None


class Mapping(msgspec.Struct, frozen=True):
    """One version's mapping. `signature` is what its file itself reads and writes."""

    signature: Signature
    inputs: tuple[InputMap, ...]
    outputs: tuple[OutputMap, ...]

    def digest(self, file_digest: str) -> str:
        """The digest of a file that is served through this mapping: both are the version."""
        canonical = msgspec.json.encode((self.inputs, self.outputs), order="sorted")
        return sha256(file_digest.encode() + b"\n" + canonical).hexdigest()


def to_model(mapping: Mapping, arrays: Map[str, Array]) -> dict[str, Array]:
    """The model's inputs from the request's.

    Raises InvalidInput for a number that the model's datatype cannot hold.
    """
    feed: dict[str, Array] = {}
    for one, spec in zip(mapping.inputs, mapping.signature.inputs, strict=True):
        parts = [_part(part, arrays[part.source]) for part in one.parts]
        if len(parts) == 1 and parts[0].ndim == len(spec.shape):
            whole = parts[0]
        else:
            columns = [part.reshape(part.shape[0], -1) for part in parts]
            whole = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)
            whole = whole.reshape(-1) if len(spec.shape) == 1 else whole
        feed[one.name] = cast(f"inputs.{one.parts[0].source}", whole, spec.datatype)
    return feed


def from_model(mapping: Mapping, seen: Signature, outputs: Map[str, Array]) -> dict[str, Array]:
    """The outputs that clients see, as `seen` says, from the model's.

    Raises ModelFailed for a class that nobody declared.
    """
    answered: dict[str, Array] = {}
    for one, spec in zip(mapping.outputs, seen.outputs, strict=True):
        array = outputs[one.source]
        if one.columns is not None:
            array = _in_order(one, array)
        if one.codes is not None:
            array = _recoded(one, array)
        elif one.texts is not None:
            array = _numbered(one, one.texts, array)
        answered[one.name] = _output_cast(one, array, spec.datatype)
    return answered


def cast(field: str, array: Array, datatype: str) -> Array:
    """The array as `datatype`. Raises InvalidInput where a number does not fit its range."""
    kind = DATATYPES[datatype]
    if array.dtype == kind.dtype:
        return array
    if kind.dtype.kind in "iu":
        limits = np.iinfo(kind.dtype)
        if array.size and not bool(((array >= limits.min) & (array <= limits.max)).all()):
            raise InvalidInput(field, f"a number is out of the range of {datatype}")
        return array.astype(kind.dtype)
    with np.errstate(over="ignore"):
        converted = array.astype(kind.dtype)
    if kind.is_float and bool((np.isinf(converted) & np.isfinite(array)).any()):
        raise InvalidInput(field, f"a number is out of the range of {datatype}")
    return converted


def _part(part: InputPart, array: Array) -> Array:
    # `take` and not an index: that may leave the elements in another order in memory.
    return array if part.columns is None else np.take(array, part.columns, axis=1)


def _in_order(one: OutputMap, array: Array) -> Array:
    assert one.columns is not None
    if array.ndim != 2 or array.shape[1] != len(one.columns):
        raise ModelFailed(
            f"output {one.source} has shape {list(array.shape)}, and {len(one.columns)} classes "
            "are declared"
        )
    return np.take(array, one.columns, axis=1)


def _recoded(one: OutputMap, array: Array) -> Array:
    codes = np.array(one.codes)
    numbers = array.astype(np.int64)
    if array.size and not bool(
        ((array == numbers) & (numbers >= 0) & (numbers < len(codes))).all()
    ):
        raise ModelFailed(f"output {one.source} gave a class that is none of 0 to {len(codes) - 1}")
    return np.take(codes, numbers)


def _numbered(one: OutputMap, texts: dict[str, int], array: Array) -> Array:
    try:
        numbers = [texts[text.decode()] for text in array.reshape(-1).tolist()]
    except (KeyError, UnicodeDecodeError):
        raise ModelFailed(
            f"output {one.source} gave a class that is none of {', '.join(texts)}"
        ) from None
    return np.array(numbers, dtype=np.int64).reshape(array.shape)


def _output_cast(one: OutputMap, array: Array, datatype: str) -> Array:
    try:
        return cast(one.name, array, datatype)
    except InvalidInput as error:
        raise ModelFailed(f"output {error}") from None
