"""The Open Inference Protocol v2 over HTTP: `/v2/...`.

Which path is what; an inference itself is made in oip_inference.py. The specification's routes
and its JSON names are kept to the letter, because public clients are what speaks to this.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from gateway.core.names import require_name
from gateway.core.tensors import TensorSpec
from gateway.errors import AuditionError, Forbidden, UnknownEndpoint, UnknownVersion
from gateway.protocols.asgi import (
    ANSWERED,
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    read_body,
    refuse_pickles,
    send_as_asked,
    send_error,
    send_json,
)
from gateway.protocols.oip_inference import Authorise, Inference, Target
from gateway.serving.routes import Routes, Table

_MODEL_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(infer|ready))?")
_SERVER = {"name": "audition", "version": "0.1.0", "extensions": ["binary_tensor_data"]}


class InferenceApp:
    """ASGI application for everything below `/v2`."""

    def __init__(
        self,
        *,
        routes: Routes,
        inference: Inference,
        authorise: Authorise,
        is_ready: Callable[[], bool],
    ) -> None:
        self._routes = routes
        self._inference = inference
        self._authorise = authorise
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
        if path == "/v2/health/live":
            await send_json(send, 200, {"live": True})
        elif path == "/v2/health/ready":
            ready = self._is_ready()
            await send_json(send, 200 if ready else 503, {"ready": ready})
        elif path in ("/v2", "/v2/"):
            self._authorise(headers, "infer", "")
            await send_json(send, 200, _SERVER)
        else:
            await self._describe_model(path, headers, scope["method"], send)

    async def _describe_model(self, path: str, headers: Headers, method: str, send: Send) -> None:
        match = _MODEL_PATH.fullmatch(path)
        if match is None:
            raise UnknownEndpoint(f"there is nothing at {path[:200]}")
        endpoint, version, verb = match.groups()
        try:
            self._authorise(headers, "infer", endpoint)
        except Forbidden:
            # Who may pin a version may also be told that it is not there.
            if version is None or verb != "infer":
                raise
            self._authorise(headers, "operate", endpoint)
        table = self._table(endpoint)
        if version is not None and version not in table.versions:
            require_name("version", version)
            raise UnknownVersion(
                f"version {version[:80]!r} of endpoint {endpoint} is not loaded; loaded are "
                + ", ".join(sorted(table.versions))
            )
        if verb == "infer" or method != "GET":
            allowed = b"POST" if verb == "infer" else b"GET"
            message = {"error": f"use {allowed.decode()} here"}
            await send_json(send, 405, message, ((b"allow", allowed),))
        elif verb == "ready":
            await send_json(send, 200, {"name": endpoint, "ready": True})
        else:
            await send_json(send, 200, _metadata(table, version))

    def _table(self, endpoint: str) -> Table:
        table = self._routes.tables.get(endpoint)
        if table is None:
            require_name("endpoint", endpoint)
            known = ", ".join(sorted(self._routes.tables)) or "none yet"
            raise UnknownEndpoint(f"there is no endpoint {endpoint[:80]!r}; there are: {known}")
        return table


def _metadata(table: Table, version: str | None) -> dict[str, Any]:
    shown = version or table.rollout.champion
    signature = table.versions[shown].model.facts.signature
    inputs = signature.inputs if version is not None else tuple(table.inputs.values())
    return {
        "name": table.rollout.endpoint,
        "versions": sorted(table.versions),
        "platform": "onnxruntime_onnx",
        "inputs": [_tensor_metadata(spec) for spec in inputs],
        "outputs": [_tensor_metadata(spec) for spec in signature.outputs],
    }


def _tensor_metadata(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
