"""The Open Inference Protocol v2 over HTTP: `/v2/...`.

Which path is what; an inference itself is made in oip_inference.py. The specification's routes
and its JSON names are kept to the letter, because public clients are what speaks to this.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from gateway.errors import AuditionError, UnknownEndpoint
from gateway.protocols.asgi import (
    ANSWERED,
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    nothing_at,
    read_body,
    refuse_pickles,
    send_as_asked,
    send_error,
    send_json,
    send_other_method,
)
from gateway.protocols.oip_catalogue import IDENTITY, Catalogue, metadata
from gateway.protocols.oip_documents import (
    LiveDocument,
    ModelReadyDocument,
    ReadyDocument,
    ServerDocument,
)
from gateway.protocols.oip_inference import Inference, Target
from gateway.protocols.oip_operations import LIVE, MODEL, OPERATIONS, READY, SERVER
from gateway.protocols.operation import allow_header
from gateway.serving.routes import Table

_MODEL_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(infer|ready))?")
_ALLOWED = {one.path: allow_header(OPERATIONS, one.path) for one in OPERATIONS}
_SERVER: ServerDocument = {**IDENTITY, "extensions": ["binary_tensor_data"]}


class _Place(NamedTuple):
    """A path by its template, and what it names."""

    template: str
    endpoint: str = ""
    version: str = ""


class InferenceApp:
    """ASGI application for everything below `/v2`."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        inference: Inference,
        is_ready: Callable[[], bool],
    ) -> None:
        self._catalogue = catalogue
        self._inference = inference
        self._is_ready = is_ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: str = scope["path"]
        target = self._inference.target(path)
        try:
            if ANSWERED in scope:
                await send_as_asked(send, dict(scope["headers"]), scope[ANSWERED])
            elif target is not None and scope["method"] == "POST":
                await self._infer(target, scope, receive, send)
            else:
                await self._describe(path, scope, send)
        except ClientGone:
            return
        except AuditionError as error:
            await send_error(send, error)

    async def _infer(self, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        call = self._inference.call(target, headers)
        try:
            body = await read_body(receive, headers, limit_bytes=self._inference.max_body_bytes)
        except AuditionError as error:
            await self._inference.refuse(target, call, error)
            raise
        answered = await self._inference.answer(target, call, headers, body)
        await send_as_asked(send, headers, answered)

    async def _describe(self, path: str, scope: Scope, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        refuse_pickles(headers)
        place = _place(path)
        table = self._let_in(place, headers)
        allow = _ALLOWED[place.template]
        if scope["method"] not in ("GET", "HEAD") or b"GET" not in allow:
            await send_other_method(send, scope["method"], allow)
        elif place.template == READY:
            is_ready = self._is_ready()
            await send_json(send, 200 if is_ready else 503, ReadyDocument(ready=is_ready))
        else:
            await send_json(send, 200, _document(place, table))

    def _let_in(self, place: _Place, headers: Headers) -> Table | None:
        """What a path leads to, for who may ask. Raises as the rights and the routes say."""
        if place.template in (LIVE, READY):
            return None
        if place.template == SERVER:
            self._catalogue.authorise(headers, "infer", "")
            return None
        infers = place.template.endswith("/infer")
        return self._catalogue.find(headers, place.endpoint, place.version or None, infers=infers)


def _place(path: str) -> _Place:
    """The place of a path. Raises UnknownEndpoint where there is none."""
    if path in (SERVER, LIVE, READY):
        return _Place(path)
    match = _MODEL_PATH.fullmatch(path)
    if match is None:
        raise UnknownEndpoint(nothing_at(path))
    endpoint, version, verb = match.groups()
    template = MODEL + ("/versions/{version}" if version else "") + (f"/{verb}" if verb else "")
    return _Place(template, endpoint, version or "")


def _document(place: _Place, table: Table | None) -> object:
    if table is None:
        return LiveDocument(live=True) if place.template == LIVE else _SERVER
    if place.template.endswith("/ready"):
        return ModelReadyDocument(name=place.endpoint, ready=True)
    return metadata(table, place.version or None)
