"""What the admin API answers: JSON documents, and each error's status.

Rules: every answer is JSON; an error is `{"error": "…"}` with the message of the exception,
which was written for the user. What nobody expected says nothing of its inside.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway import errors
from gateway.protocols.asgi import nothing_at, status_of


def answer(document: object, *, status: int = 200, epoch: int | None = None) -> Response:
    """A JSON answer; `epoch` becomes the ETag that a change sends back in If-Match."""
    headers = {} if epoch is None else {"etag": f'"{epoch}"'}
    return Response(
        msgspec.json.encode(document), status, headers=headers, media_type="application/json"
    )


def error_answer(error: Exception) -> Response:
    """The answer to an error of ours."""
    status = _status(error)
    document: dict[str, Any] = {"error": str(error) if status != 500 else "internal error"}
    response = answer(document, status=status)
    if isinstance(error, errors.Conflict) and error.epoch is not None:
        response = answer({**document, "epoch": error.epoch}, status=status, epoch=error.epoch)
    if isinstance(error, errors.BodyTooLarge):
        response.headers["connection"] = "close"  # nobody shall read the rest of it
    if isinstance(error, errors.Unauthenticated):
        response.headers["www-authenticate"] = "Bearer"
    if isinstance(error, errors.Overloaded):
        response.headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, errors.StoreUnavailable):
        response.headers["retry-after"] = "1"
    return response


def _status(error: Exception) -> int:
    return status_of(error) if isinstance(error, errors.AuditionError) else 500


async def on_error(_request: Request, error: Exception) -> Response:
    """Starlette's hook for any exception."""
    return error_answer(error)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Starlette's hook for its own: no such route, or no such method there."""
    assert isinstance(error, HTTPException)
    found = error.detail if error.status_code != 404 else nothing_at(request.url.path)
    response = answer({"error": found}, status=error.status_code)
    response.headers.update(error.headers or {})
    return response
