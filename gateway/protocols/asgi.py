"""What our raw ASGI applications share: reading a bounded body, answering bytes, statuses.

Raw ASGI and not a framework, because this stands in front of every answer: a framework's
request object costs more than the model does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from gateway.errors import (
    AuditionError,
    BodyTooLarge,
    Conflict,
    CorruptStore,
    Forbidden,
    InvalidInput,
    InvalidModel,
    InvalidName,
    InvalidSetting,
    JournalUnavailable,
    ModelFailed,
    ModelTimedOut,
    Overloaded,
    Refused,
    StoreUnavailable,
    TooManyAttempts,
    Unauthenticated,
    UnknownEndpoint,
    UnknownVersion,
    UnsupportedEncoding,
)
from gateway.protocols.compression import coding_for, decompress, packed, too_large

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Mapping[bytes, bytes]

#: Under this key of its scope a request brings the response that it was given already.
ANSWERED = "audition.answered"

JSON = (b"content-type", b"application/json")

#: The first class of an error's ancestry that stands here decides its HTTP status.
STATUSES: dict[type[BaseException], int] = {
    BodyTooLarge: 413,
    UnsupportedEncoding: 415,
    InvalidInput: 400,
    InvalidName: 422,
    InvalidSetting: 422,
    InvalidModel: 422,
    UnknownEndpoint: 404,
    UnknownVersion: 404,
    Unauthenticated: 401,
    Forbidden: 403,
    Conflict: 409,
    Refused: 409,
    ModelTimedOut: 504,
    ModelFailed: 502,
    TooManyAttempts: 429,
    Overloaded: 503,
    JournalUnavailable: 503,
    StoreUnavailable: 503,
    CorruptStore: 503,
}

#: What clients send that mean JSON or raw tensors; `curl -d` names a form and sends JSON.
_CONTENT_TYPES = frozenset(
    {
        b"",
        b"application/json",
        b"application/x-ndjson",
        b"application/octet-stream",
        b"application/x-www-form-urlencoded",
    }
)


class ClientGone(Exception):
    """The client hung up before its body was complete; nothing can be answered."""


def status_of(error: AuditionError) -> int:
    """The HTTP status of an error."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def nothing_at(path: str) -> str:
    """What is said of a path that leads nowhere."""
    return f"there is nothing at {path[:200]}"


async def read_body(receive: Receive, headers: Headers, *, limit_bytes: int) -> bytes:
    """The whole body, decompressed.

    Raises BodyTooLarge before more than the limit is held, UnsupportedEncoding or ClientGone.
    """
    require_known_type(headers)
    if _declared_length(headers) > limit_bytes:
        raise too_large(limit_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body = await _read_on(receive, body, limit_bytes)
    elif message["type"] == "http.disconnect":
        raise ClientGone
    if len(body) > limit_bytes:
        raise too_large(limit_bytes)
    encoding = headers.get(b"content-encoding")
    return body if encoding is None else decompress(body, encoding, limit_bytes=limit_bytes)


def require_known_type(headers: Headers) -> None:
    """Raise UnsupportedEncoding unless the body is said to be JSON or raw tensors."""
    given = headers.get(b"content-type", b"")
    if given not in _CONTENT_TYPES and media_type(headers) not in _CONTENT_TYPES:
        raise UnsupportedEncoding("Content-Type", "send application/json or binary tensors")


def _declared_length(headers: Headers) -> int:
    return number_in(headers.get(b"content-length", b"0")) or 0


def media_type(headers: Headers) -> bytes:
    """What the body is said to be, without parameters."""
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def number_in(value: bytes) -> int | None:
    """A header's number; None if it is none, or has more digits than any number of bytes."""
    return int(value) if value.isdigit() and len(value) < 20 else None


def refuse_pickles(headers: Headers) -> None:
    """Raise UnsupportedEncoding for a pickle, on routes that read no body too."""
    if b"pickle" in media_type(headers):
        raise UnsupportedEncoding("Content-Type", "pickles are never read; send JSON")


async def _read_on(receive: Receive, begun: bytes, limit_bytes: int) -> bytes:
    chunks, size = [begun], len(begun)
    while size <= limit_bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if not message.get("more_body"):
            return b"".join(chunks)
    raise too_large(limit_bytes)


async def send_bytes(
    send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    """One whole response."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_json(
    send: Send, status: int, content: object, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """One JSON response."""
    await send_bytes(send, status, msgspec.json.encode(content), [JSON, *headers])


async def send_other_method(send: Send, method: str, allow: bytes) -> None:
    """The answer to OPTIONS, and to a method that is none of a path's own, `allow`."""
    if method == "OPTIONS":
        await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", allow)]})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send_json(send, 405, {"error": f"use {allow.decode()} here"}, ((b"allow", allow),))


class Response(msgspec.Struct, gc=False):
    """A whole response; `headers` lack the content length."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def is_asked_packed(headers: Headers, response: Response) -> bool:
    """Whether this client wants this response packed."""
    accepted = headers.get(b"accept-encoding")
    return accepted is not None and coding_for(accepted, len(response.body)) != b""


async def send_as_asked(send: Send, headers: Headers, response: Response) -> None:
    """The response, packed if the request's headers ask for it and it helps."""
    body, accepted = response.body, headers.get(b"accept-encoding")
    coding = coding_for(accepted, len(body))
    if coding:
        smaller = await packed(body, coding)
        if len(smaller) < len(body) or coding_for(accepted, 0):
            body = smaller
            response.headers += ((b"content-encoding", coding), (b"vary", b"accept-encoding"))
    await send_bytes(send, response.status, body, response.headers)


async def send_error(send: Send, error: AuditionError) -> None:
    """Send what `error_response` says."""
    response = error_response(error)
    await send_bytes(send, response.status, response.body, response.headers)


def error_response(error: AuditionError) -> Response:
    """An error as `{"error": …}`, the only form that public clients understand."""
    headers: list[tuple[bytes, bytes]] = [JSON]
    if isinstance(error, Overloaded):
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, BodyTooLarge):
        headers.append((b"connection", b"close"))
    return Response(status_of(error), headers, msgspec.json.encode({"error": str(error)}))
