"""Request bodies of the admin API: typed, bounded, and never buffered past their limit.

Rules: a declared length over the limit is refused before a byte is read; so is a media type
that is not the route's. Nothing is ever unpickled, whatever a content type says.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from gateway.errors import BodyTooLarge, InvalidInput, UnsupportedEncoding

JSON = frozenset({"application/json"})
_S = TypeVar("_S", bound=msgspec.Struct)


def require_media_type(request: Request, allowed: frozenset[str], *, if_any: bool = False) -> None:
    """Raise UnsupportedEncoding unless the body is of an allowed media type, not encoded.

    `if_any`: a request without a content type, because it has no body, is fine too.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in allowed and (media_type or not if_any):
        raise UnsupportedEncoding(
            "Content-Type", f"{media_type or 'none'} is not spoken here; send {_either(allowed)}"
        )
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise UnsupportedEncoding("Content-Encoding", f"{encoding}: send the body as it is")


async def read_body(request: Request, *, limit_bytes: int) -> bytes:
    """The whole body. Raises BodyTooLarge."""
    _require_length(request, limit_bytes)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        _require_within(size, limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


async def read_json(request: Request, kind: type[_S], *, limit_bytes: int) -> _S:
    """The body as `kind`. Raises InvalidInput with the path of what is wrong."""
    require_media_type(request, JSON)
    return decode_json(await read_body(request, limit_bytes=limit_bytes), kind)


def read_query(request: Request, kind: type[_S]) -> _S:
    """The query as `kind`, whose fields are texts. Raises InvalidInput with the parameter."""
    try:
        return msgspec.convert(dict(request.query_params), type=kind, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        raise InvalidInput(path.rstrip("`").removeprefix("$.") or "query", message) from None


def decode_json(body: bytes, kind: type[_S]) -> _S:
    """The JSON document as `kind`. Raises InvalidInput with the path of what is wrong."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        raise InvalidInput(path.rstrip("`").removeprefix("$.") or "body", message) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput("body", f"this is not JSON that can be read: {error}") from None


async def spool_body(request: Request, target: Path, *, limit_bytes: int) -> None:
    """Write the body to a file as it comes. Raises BodyTooLarge, InvalidInput if empty."""
    _require_length(request, limit_bytes)
    size = 0
    with target.open("wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            _require_within(size, limit_bytes)
            await run_in_threadpool(file.write, chunk)
    if size == 0:
        raise InvalidInput("body", "is empty; send the file's bytes")


def _require_length(request: Request, limit_bytes: int) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():
        _require_within(int(declared), limit_bytes)


def _require_within(size: int, limit_bytes: int) -> None:
    if size > limit_bytes:
        raise BodyTooLarge("body", f"is larger than {limit_bytes} bytes")


def _either(allowed: frozenset[str]) -> str:
    return " or ".join(sorted(allowed))
