"""The bytes of an Open Inference Protocol request → its parts, not yet tensors.

Rules: nothing here knows a model. Every refusal is InvalidInput with the path that the
protocol uses, such as `inputs[0].shape[1]`. Counts, lengths and nesting are bounded by the
types, so that msgspec refuses in C what is too much; of duplicate JSON keys the last one wins.

Tensor data is parsed in the same pass as the request, as numbers, nulls and strings. That
costs a third less than cutting it out first, and half as much with many small inputs. Booleans
are left out, because nothing later could tell them from 0 and 1 as cheaply: a request that
holds one is parsed a second time with its data cut out (`Raw`), to be read by datatype.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Generic, NoReturn, TypeAlias, TypeVar, cast

import msgspec
from msgspec import Meta, Raw

from gateway.errors import InvalidInput

MAX_NAME_LENGTH = 256
MAX_TENSORS = 1024
MAX_RANK = 32
MAX_DATA_NESTING = 8
MAX_PARAMETER_NESTING = 4
HEADER_LENGTH = "Inference-Header-Content-Length"

Name = Annotated[str, Meta(max_length=MAX_NAME_LENGTH)]
Dimension = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Data = TypeVar("Data")


def nested(element: Any, depth: int) -> Any:
    """The type of a JSON array of `element`, nested at most `depth` deep."""
    array: Any = list[element]
    for _ in range(depth - 1):
        array = list[element | array]
    return array


def _parameter_value(depth: int) -> Any:
    scalar = bool | int | float | str | None
    if depth == 0:
        return scalar
    inner: Any = _parameter_value(depth - 1)
    return scalar | list[inner] | dict[str, inner]


if TYPE_CHECKING:
    Parameters = dict[str, Any]
else:
    Parameters = dict[str, _parameter_value(MAX_PARAMETER_NESTING)]


class InputTensor(msgspec.Struct, Generic[Data], gc=False):
    """One input. `data` is a list or Raw when sent as JSON, bytes when binary, None if absent."""

    name: Name
    shape: Annotated[tuple[Dimension, ...], Meta(max_length=MAX_RANK)]
    datatype: Name
    data: Data = cast(Any, None)
    parameters: Parameters | None = None


class RequestedOutput(msgspec.Struct, gc=False):
    """One output that the client asks for."""

    name: Name
    parameters: Parameters | None = None


class ParsedRequest(msgspec.Struct, Generic[Data], gc=False):
    """One request; `id` is echoed, `parameters` are read by `request_context`."""

    inputs: Annotated[list[InputTensor[Data]], Meta(max_length=MAX_TENSORS)]
    id: Name | None = None
    parameters: Parameters | None = None
    outputs: Annotated[list[RequestedOutput], Meta(max_length=MAX_TENSORS)] | None = None


InferRequest: TypeAlias = ParsedRequest[Any]

_Element = int | float | str | None


def _decoder(data: Any) -> Callable[[bytes], InferRequest]:
    """The decoder of a request whose tensors' data have this type."""
    return msgspec.json.Decoder(ParsedRequest[data]).decode


_decode = _decoder(nested(_Element, MAX_DATA_NESTING))
_decode_cut = _decoder(Raw)
# Only names the place of an error: accepts every JSON value but an object as an element.
_locate = _decoder(nested(_Element | bool, MAX_DATA_NESTING))


def decode_request(body: bytes, json_length: int | None) -> InferRequest:
    """Take a request apart; `json_length` is the value of Inference-Header-Content-Length.

    Raises InvalidInput with the path of the offending part.
    """
    if json_length is None:
        request = _decode_json(body)
    elif 0 < json_length <= len(body):
        request = _decode_json(body[:json_length])
        _attach_binary(request, body, json_length)
    else:
        raise InvalidInput(
            HEADER_LENGTH, f"send the length of the JSON: 1 to {len(body)}, the body's length"
        )
    return _printable(request)


def convert_request(parts: dict[str, Any]) -> InferRequest:
    """A request that came in another form than JSON, within the same bounds.

    `parts` are those of the JSON document; the data of a tensor is a list of elements or their
    raw bytes. Raises InvalidInput with the path of the offending part.
    """
    try:
        return _printable(msgspec.convert(parts, ParsedRequest[Any]))
    except msgspec.ValidationError as error:
        raise at_path("", error) from None


def _printable(request: InferRequest) -> InferRequest:
    if request.id is not None and not request.id.isprintable():
        raise InvalidInput("id", "use printable characters only")
    return request


def _decode_json(text: bytes) -> InferRequest:
    try:
        try:
            return _decode(text)
        except msgspec.ValidationError:
            return _decode_cut(text)
    except (ValueError, RecursionError) as error:
        _refuse(error, text)


def _refuse(error: Exception, text: bytes) -> NoReturn:
    """Turn what msgspec raised into the error that names the field."""
    if isinstance(error, msgspec.ValidationError):
        raise at_path("", error) from None
    if isinstance(error, RecursionError):
        raise InvalidInput("body", "nested too deeply; send flat data") from None
    if isinstance(error, UnicodeDecodeError):
        raise InvalidInput("body", "send JSON as UTF-8") from None
    raise _malformed(str(error), text) from None


def at_path(prefix: str, error: msgspec.ValidationError) -> InvalidInput:
    """The error with its path in the protocol's terms: `prefix` replaces msgspec's `$`."""
    message, _, path = str(error).partition(" - at `$")
    field = (prefix + path.rstrip("`")).removeprefix(".") or "body"
    return InvalidInput(field, message[:1].lower() + message[1:].replace("`", ""))


_NO_JSON = re.compile(rb"-?(?:NaN|Infinity)")
_AT_BYTE = re.compile(r"\(byte (\d+)\)")


def _malformed(message: str, text: bytes) -> InvalidInput:
    literal = _non_number(message, text)
    if literal is None:
        return InvalidInput("body", message.replace("JSON is", "the JSON is", 1))
    advice = "is no JSON number; send null if the input is declared allow_missing"
    word = literal.group().decode()
    try:
        _locate(text[: literal.start()] + b"{}" + text[literal.end() :])
    except msgspec.ValidationError as error:
        return InvalidInput(at_path("", error).field, f"{word} {advice}")
    except (ValueError, RecursionError):  # something else is wrong as well
        pass
    return InvalidInput("body", f"{word} {advice}")


def _non_number(message: str, text: bytes) -> re.Match[bytes] | None:
    """The NaN or Infinity at which the parser stopped, if that is what stopped it."""
    place = _AT_BYTE.search(message)
    if place is None:
        return None
    at = int(place.group(1))
    # It stops behind a minus sign.
    return _NO_JSON.match(text, max(at - 1, 0)) or _NO_JSON.match(text, at)


def _attach_binary(request: InferRequest, body: bytes, json_length: int) -> None:
    """Hand every input its share of the bytes behind the JSON, in the order of the inputs."""
    at = json_length
    for index, tensor in enumerate(request.inputs):
        size = None if tensor.parameters is None else tensor.parameters.get("binary_data_size")
        if size is None:
            continue
        _check_share(index, tensor, size, left=len(body) - at)
        # A copy, so that the elements are aligned and the rest of the body is not kept alive.
        tensor.data = body[at : at + size]
        at += size
    if at != len(body):
        raise InvalidInput(
            "body",
            f"{len(body) - at} bytes belong to no input; binary_data_size and {HEADER_LENGTH} "
            "must add up to the body",
        )


def _check_share(index: int, tensor: InputTensor[Any], size: Any, *, left: int) -> None:
    field = f"inputs[{index}].parameters.binary_data_size"
    if type(size) is not int or size < 0:
        raise InvalidInput(field, "send the number of bytes as an integer")
    if tensor.data is not None:
        raise InvalidInput(f"inputs[{index}].data", "send data as JSON or as binary, not both")
    if size > left:
        raise InvalidInput(field, f"{size} bytes are declared, {left} are left in the body")
