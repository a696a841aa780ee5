"""The front door of a worker: which application answers which path. Unknown paths are 404."""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import AuditionError, UnknownEndpoint
from gateway.protocols.asgi import (
    Application,
    Headers,
    Receive,
    Scope,
    Send,
    refuse_pickles,
    send_error,
    send_json,
)


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
    ) -> None:
        self._inference = inference
        self._labels = labels
        self._admin = admin
        self._metrics = metrics
        self._authorise_metrics = authorise_metrics
        self._is_ready = is_ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        path: str = scope["path"]
        if path.startswith("/v2"):
            await self._inference(scope, receive, send)
            return
        try:
            await self._others(path, scope, receive, send)
        except AuditionError as error:
            await send_error(send, error)

    async def _others(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        refuse_pickles(headers)
        if path == "/v1/labels":
            await self._labels(scope, receive, send)
        elif path.startswith("/v1/"):
            await self._admin(scope, receive, send)
        elif path == "/livez":
            await send_json(send, 200, {"live": True})
        elif path == "/readyz":
            ready = self._is_ready()
            await send_json(send, 200 if ready else 503, {"ready": ready})
        elif path == "/metrics":
            self._authorise_metrics(headers)
            await self._metrics(scope, receive, send)
        else:
            raise UnknownEndpoint(f"there is nothing at {path[:200]}")


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
