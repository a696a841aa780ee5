"""The inputs of an Open Inference Protocol request → numpy arrays, checked against their specs.

Rules: nothing is allocated by what a client declares, only by what it sent; a value becomes an
element if the datatype holds it exactly, or (floating point) to its nearest number. No element
is ever coerced from another JSON type. Where the offending element is, is found out only
after something was refused, so that good requests do not pay for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from itertools import chain
from math import isnan, nan, prod
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw

from gateway.core.tensors import (
    Array,
    Datatype,
    Shape,
    TensorSpec,
    first_nonfinite,
    from_raw,
    texts_array,
)
from gateway.errors import InvalidInput
from gateway.protocols.oip_request import (
    HEADER_LENGTH,
    MAX_DATA_NESTING,
    InferRequest,
    InputTensor,
    at_path,
    nested,
)

Tensor = InputTensor[Any]


def decode_inputs(
    request: InferRequest, specs: Mapping[str, TensorSpec], required: Collection[str]
) -> dict[str, Array]:
    """Every input of the request as a read-only array; dimension 0 agrees where it is dynamic.

    `specs` is what may be sent; `required`, names among them, is what must be. BYTES come as
    object arrays of bytes.
    Raises InvalidInput with the path of the offending part.
    """
    arrays: dict[str, Array] = {}
    rows: int | None = None
    for tensor in request.inputs:
        spec = specs.get(tensor.name)
        if spec is None:
            raise _unknown(request, tensor, specs)
        try:
            arrays[tensor.name] = _to_array(tensor, spec)
        except InvalidInput as error:
            raise _inside(request, tensor, error) from None
        if spec.has_rows and tensor.shape[0] != rows:
            rows = _first_rows(request, tensor, rows)
    if len(arrays) != len(request.inputs):
        raise _repeated(request)
    if len(arrays) != len(specs) and not all(map(arrays.__contains__, required)):
        raise _missing(arrays, required)
    return arrays


def _to_array(tensor: Tensor, spec: TensorSpec) -> Array:
    """One input as an array; the fields of errors are relative to the input."""
    if tensor.datatype != spec.datatype:
        raise InvalidInput("datatype", f"send {spec.datatype}, as the model reads")
    shape = tensor.shape
    # One comparison for the usual case, where only dimension 0 is dynamic.
    if not (shape and spec.has_rows and shape[1:] == spec.row_shape) and not spec.admits(shape):
        raise InvalidInput("shape", f"{list(shape)} does not fit {list(spec.shape)} (-1 is any)")
    data = tensor.data
    if type(data) is list:
        return _from_elements(data, shape, spec)
    if type(data) is bytes:
        return _from_binary(data, shape, spec)
    if type(data) is Raw:
        return _from_elements(_read(data, spec.kind), shape, spec)
    raise _without_data(tensor)


def _from_elements(data: list[Any], shape: Shape, spec: TensorSpec) -> Array:
    """JSON elements, flat or nested as `shape` says, as an array."""
    flat = _flatten(data, shape) if data and type(data[0]) is list else data
    count = prod(shape)
    if len(flat) != count:
        raise InvalidInput(
            "data", f"shape {list(shape)} asks for {count} elements, {len(flat)} were sent"
        )
    kind = spec.kind
    if not kind.pack_code:
        return _texts(flat, shape)
    try:
        return np.ndarray(shape, kind.dtype, _packer(kind.pack_code, count)(*flat))
    except (struct.error, OverflowError, ValueError):
        raw = _pack_missing(flat, spec, shape if flat is not data else (count,))
        return from_raw(kind.name, shape, raw)


@lru_cache(maxsize=1024)
def _packer(pack_code: str, count: int) -> Callable[..., bytes]:
    """`struct` checks type and range of each element, and is twice as fast as numpy here."""
    return _pack_bools if pack_code == "?" else struct.Struct(f"<{count}{pack_code}").pack


def _pack_bools(*elements: Any) -> bytes:
    # `struct` would take anything that has a truth value.
    if any(type(element) is not bool for element in elements):
        raise struct.error("not a bool")
    return bytes(elements)


def _flatten(rows: list[Any], shape: Shape) -> list[Any]:
    """The elements of nested rows; the nesting must be the shape's."""
    level = rows
    as_declared = shape[:1] == (len(rows),)
    for dim in shape[1:]:
        as_declared = as_declared and set(map(type, level)) <= {list}
        if not as_declared or not set(map(len, level)) <= {dim}:
            raise InvalidInput("data", f"nest it as shape {list(shape)} says, or send it flat")
        level = list(chain.from_iterable(level))
    return level


def _pack_missing(flat: list[Any], spec: TensorSpec, sent_shape: Shape) -> bytes:
    """Missing values become NaN where they are allowed; all else is refused by its path."""
    kind = spec.kind
    if spec.allow_missing and kind.is_float:
        flat = [nan if element is None else element for element in flat]
    try:
        return _packer(kind.pack_code, len(flat))(*flat)
    except (struct.error, OverflowError):
        index = next(i for i, element in enumerate(flat) if not _fits(element, kind))
    place = "".join(f"[{at}]" for at in np.unravel_index(index, sent_shape))
    raise InvalidInput(f"data{place}", _complaint(flat[index], spec))


def _fits(element: Any, kind: Datatype) -> bool:
    try:
        _packer(kind.pack_code, 1)(element)
    except (struct.error, OverflowError):
        return False
    return True


_FOUND = {
    str: "a string",
    list: "an array",
    type(None): "null",
    int: "a number",
    float: "a number with a fraction or an exponent",
}


def _complaint(element: Any, spec: TensorSpec) -> str:
    is_float = spec.kind.is_float
    if element is None and is_float:
        return "null is no number; declare the input allow_missing if values may be missing"
    if spec.datatype == "BOOL":
        return f"send true or false for BOOL, not {_FOUND[type(element)]}"
    if type(element) is int or (type(element) is float and is_float):
        return f"the number is out of the range of {spec.datatype}"
    wanted = "a number" if is_float else "an integer"
    return f"send {wanted} for {spec.datatype}, not {_FOUND[type(element)]}"


def _texts(flat: list[Any], shape: Shape) -> Array:
    try:
        elements = list(map(str.encode, flat))
    except TypeError:
        index = next(i for i, element in enumerate(flat) if type(element) is not str)
        raise InvalidInput("data", f"element {index} is no string, as BYTES need") from None
    return texts_array(elements, shape)


def _from_binary(raw: bytes, shape: Shape, spec: TensorSpec) -> Array:
    """Raw bytes as an array; NaN passes where values may be missing, infinities never."""
    array = from_raw(spec.datatype, shape, raw)
    index = first_nonfinite(array)
    if index is not None and spec.allow_missing:
        infinite = np.isinf(array)
        index = int(infinite.argmax()) if infinite.any() else None
    if index is None:
        return array
    word = "NaN" if isnan(array.flat[index]) else "an infinity"
    raise InvalidInput("data", f"element {index} is {word}; send finite numbers")


_ELEMENTS: dict[str, Any] = {"BOOL": bool, "BYTES": str}


@lru_cache(maxsize=16)
def _reader(name: str, *, is_float: bool) -> Callable[[Raw], list[Any]]:
    element = _ELEMENTS.get(name, float | None if is_float else int)
    return msgspec.json.Decoder(nested(element, MAX_DATA_NESTING)).decode


def _read(data: Raw, kind: Datatype) -> list[Any]:
    """Data that was cut out of its request, read as the elements of this datatype."""
    try:
        return _reader(kind.name, is_float=kind.is_float)(data)
    except msgspec.ValidationError as error:
        raise at_path("data", error) from None
    except ValueError:  # cutting out does not look into strings
        raise InvalidInput("data", "send text as UTF-8, or the tensor as binary") from None


def _without_data(tensor: Tensor) -> InvalidInput:
    parameters = tensor.parameters or {}
    if "shared_memory_region" in parameters:
        return InvalidInput("parameters", "shared memory is not served; send the data itself")
    if "binary_data_size" in parameters:
        return InvalidInput("data", f"binary data needs the header {HEADER_LENGTH}")
    return InvalidInput("data", "send the elements")


def _place(request: InferRequest, tensor: Tensor) -> str:
    return f"inputs[{next(i for i, other in enumerate(request.inputs) if other is tensor)}]"


def _inside(request: InferRequest, tensor: Tensor, error: InvalidInput) -> InvalidInput:
    message = str(error).removeprefix(f"{error.field}: ")
    return InvalidInput(f"{_place(request, tensor)}.{error.field}", message)


def _unknown(
    request: InferRequest, tensor: Tensor, specs: Mapping[str, TensorSpec]
) -> InvalidInput:
    return InvalidInput(
        f"{_place(request, tensor)}.name",
        f"no input {tensor.name[:80]!r} is read here; send {_some(list(specs))}",
    )


def _first_rows(request: InferRequest, tensor: Tensor, rows: int | None) -> int:
    """The number of rows, from the first input that has them; InvalidInput if others differ."""
    if rows is None:
        return tensor.shape[0]
    field = f"{_place(request, tensor)}.shape[0]"
    raise InvalidInput(field, f"send {rows} rows, as in the inputs before")


def _repeated(request: InferRequest) -> InvalidInput:
    seen: set[str] = set()
    for index, tensor in enumerate(request.inputs):
        if tensor.name in seen:
            return InvalidInput(f"inputs[{index}].name", f"{tensor.name!r} was sent before")
        seen.add(tensor.name)
    raise AssertionError("no input is repeated")


def _missing(arrays: Mapping[str, Array], required: Collection[str]) -> InvalidInput:
    missing = [name for name in required if name not in arrays]
    return InvalidInput("inputs", f"send {_some(missing)} as well")


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
