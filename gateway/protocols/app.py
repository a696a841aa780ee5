"""The front door of a worker: which application answers which path. Unknown paths are 404."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gateway.errors import (
    AuditionError,
    Forbidden,
    StoreUnavailable,
    TooManyAttempts,
    Unauthenticated,
    UnknownEndpoint,
    UnsupportedEncoding,
)
from gateway.protocols.asgi import (
    JSON,
    Application,
    Headers,
    Receive,
    Scope,
    Send,
    nothing_at,
    refuse_pickles,
    send_bytes,
    send_error,
    send_json,
    send_other_method,
)
from gateway.protocols.labels_http import TAKE_LABELS
from gateway.protocols.oip_documents import LiveDocument, ReadyDocument
from gateway.protocols.oip_operations import live, ready
from gateway.protocols.operation import JSON_TYPE, ErrorDocument, Operation, allow_header

LIVEZ, READYZ = live("/livez"), ready("/readyz")
METRICS = Operation(
    method="GET",
    path="/metrics",
    needs="view",
    may_be_open=True,
    summary="Prometheus metrics of all workers.",
    gives={200: {"text/plain": bytes}},
    refuses=(Unauthenticated, Forbidden, TooManyAttempts, StoreUnavailable, UnsupportedEncoding),
)
DOCUMENT = Operation(
    method="GET",
    path="/openapi.json",
    needs=None,
    summary="This document.",
    gives={200: {JSON_TYPE: dict[str, Any]}},
    refuses=(UnsupportedEncoding,),
)
#: What the front door answers itself, beside the applications behind it.
OPERATIONS = (LIVEZ, READYZ, METRICS, DOCUMENT)
_ALLOWED = {one.path: allow_header(OPERATIONS, one.path) for one in OPERATIONS}
_logger = logging.getLogger(__name__)


class Routed:
    """ASGI application over all of ours, and the host's for metrics."""

    def __init__(
        self,
        *,
        inference: Application,
        labels: Application,
        admin: Application,
        metrics: Application,
        authorise_metrics: Callable[[Headers], str],
        is_ready: Callable[[], bool],
        openapi: Callable[[], bytes],
    ) -> None:
        """`openapi` makes the document of all routes; it is asked once, in a thread."""
        self._inference = inference
        self._labels = labels
        self._admin = admin
        self._metrics = metrics
        self._authorise_metrics = authorise_metrics
        self._is_ready = is_ready
        self._openapi = functools.cache(openapi)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        path: str = scope["path"]
        try:
            if path.startswith("/v2"):
                await self._inference(scope, receive, send)
            else:
                await self._others(path, scope, receive, send)
        except AuditionError as error:
            await send_error(send, error)
        except Exception:
            _logger.exception("a request failed")
            # Where an answer had begun, the server breaks it off.
            with suppress(RuntimeError):
                await send_json(send, 500, ErrorDocument(error="internal error"))

    async def _others(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        refuse_pickles(headers)
        if path == TAKE_LABELS.path:
            await self._labels(scope, receive, send)
        elif path.startswith("/v1/"):
            await self._admin(scope, receive, send)
        elif path in _ALLOWED:
            await self._answer(path, headers, scope, receive, send)
        else:
            raise UnknownEndpoint(nothing_at(path))

    async def _answer(
        self, path: str, headers: Headers, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if path == METRICS.path:
            self._authorise_metrics(headers)
        if scope["method"] not in ("GET", "HEAD"):
            await send_other_method(send, scope["method"], _ALLOWED[path])
        elif path == METRICS.path:
            await self._metrics(scope, receive, send)
        elif path == READYZ.path:
            is_ready = self._is_ready()
            await send_json(send, 200 if is_ready else 503, ReadyDocument(ready=is_ready))
        elif path == LIVEZ.path:
            await send_json(send, 200, LiveDocument(live=True))
        else:
            await send_bytes(send, 200, await asyncio.to_thread(self._openapi), [JSON])


def without_pickles(app: Application) -> Application:
    """The host's own application of a process, whose routes shall refuse pickles like ours."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                refuse_pickles(dict(scope["headers"]))
            except AuditionError as error:
                await send_error(send, error)
                return
        await app(scope, receive, send)

    return guarded
