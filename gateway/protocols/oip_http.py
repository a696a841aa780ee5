"""The Open Inference Protocol v2 over HTTP: `/v2/...`.

Decode, call the data plane, encode; nothing is decided here. The specification's routes and
its JSON names are kept to the letter, because public clients are what speaks to this.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from gateway.core.access import Right
from gateway.core.names import require_name
from gateway.core.tensors import TensorSpec
from gateway.errors import AuditionError, InvalidInput, UnknownEndpoint, UnknownVersion
from gateway.protocols.asgi import (
    JSON,
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    number_in,
    read_body,
    refuse_pickles,
    send_bytes,
    send_error,
    send_json,
)
from gateway.protocols.oip_codec import (
    InferRequest,
    decode_inputs,
    decode_request,
    encode_response,
    request_context,
    requested_outputs,
)
from gateway.serving.dataplane import Answer, Call, DataPlane
from gateway.serving.routes import Routes, Table
from gateway.serving.trace import Tracer

#: (headers, right, endpoint) → the client's name. Raises Unauthenticated or Forbidden.
Authorise = Callable[[Headers, Right, str], str]

_BINARY = (b"content-type", b"application/octet-stream")
_MODEL_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(infer|ready))?")
_SERVER = {"name": "audition", "version": "0.1.0", "extensions": ["binary_tensor_data"]}


class InferenceApp:
    """ASGI application for everything below `/v2`."""

    def __init__(
        self,
        *,
        routes: Routes,
        dataplane: DataPlane,
        tracer: Tracer,
        authorise: Authorise,
        is_ready: Callable[[], bool],
        max_body_bytes: int,
    ) -> None:
        self._routes = routes
        self._dataplane = dataplane
        self._tracer = tracer
        self._authorise = authorise
        self._is_ready = is_ready
        self._max_body_bytes = max_body_bytes
        self._paths: dict[str, tuple[Table, str | None]] = {}
        self._paths_of: object = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._paths_of is not self._routes.tables:
            self._index_paths()
        path: str = scope["path"]
        target = self._paths.get(path)
        try:
            if target is not None and scope["method"] == "POST":
                await self._infer(target[0], target[1], scope, receive, send)
            else:
                await self._describe(path, scope, send)
        except ClientGone:
            return
        except AuditionError as error:
            await send_error(send, error)

    def _index_paths(self) -> None:
        self._paths_of = tables = self._routes.tables
        self._paths = {}
        for endpoint, table in tables.items():
            self._paths[f"/v2/models/{endpoint}/infer"] = (table, None)
            for version in table.versions:
                self._paths[f"/v2/models/{endpoint}/versions/{version}/infer"] = (table, version)

    async def _infer(
        self, table: Table, pinned: str | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        accepted_at_us = time.time_ns() // 1000
        headers: Headers = dict(scope["headers"])
        endpoint = table.rollout.endpoint
        is_open = pinned is None or table.rules.allow_pinned
        client = self._authorise(headers, "infer" if is_open else "operate", endpoint)
        traceparent = headers.get(b"traceparent")
        trace = self._tracer.begin(None if traceparent is None else traceparent.decode("latin-1"))
        call = Call(trace, accepted_at_us, client, None, pinned)
        try:
            body = await read_body(receive, headers, limit_bytes=self._max_body_bytes)
            request = decode_request(body, _json_length(headers))
            arrays = _fill(call, request, headers, table)
        except AuditionError as error:
            await self._dataplane.refuse(table, call, error)
            raise
        answer = await self._dataplane.infer(table, call, arrays)
        await _answer(send, request, answer, endpoint, trace.traceparent)

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
        self._authorise(headers, "infer", endpoint)
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


def _json_length(headers: Headers) -> int | None:
    value = headers.get(b"inference-header-content-length")
    if value is None:
        return None
    length = number_in(value)
    if length is None:
        raise InvalidInput("Inference-Header-Content-Length", "send a number of bytes")
    return length


def _fill(call: Call, request: InferRequest, headers: Headers, table: Table) -> dict[str, Any]:
    """Decode the tensors, and write into `call` what the request says beside them."""
    call.client_request_id = request.id
    if request.parameters:
        context = request_context(request.parameters)
        call.occurred_at_us = context.occurred_at_us
        call.entity = context.entity
        call.attributes = context.attributes
        call.unit = context.unit
    if call.unit is None and b"x-unit" in headers:
        call.unit = _unit(headers[b"x-unit"])
    if table.rules.event_time == "client" and call.occurred_at_us is None:
        raise InvalidInput(
            "parameters.occurred_at",
            "is missing; this endpoint's clients bring the time (event_time: client)",
        )
    if table.rules.entity.source == "parameter" and call.entity is None:
        raise InvalidInput(
            "parameters.entity", "is missing; this endpoint is judged by entity, so name it"
        )
    if request.outputs:
        # Before anything runs, and by every version that may answer: whom the split picks must
        # not decide whether a request is refused.
        for version in [call.pinned] if call.pinned is not None else table.rollout.split:
            requested_outputs(request, table.versions[version].model.facts.signature)
    arrays = decode_inputs(request, table.inputs, ())
    if table.batched and arrays:
        call.rows = next(iter(arrays.values())).shape[0]
    return arrays


def _unit(value: bytes) -> str:
    text = value.decode("latin-1")
    if not 0 < len(text) <= 256 or not text.isprintable():
        raise InvalidInput("x-unit", "send 1 to 256 printable characters")
    return text


async def _answer(
    send: Send, request: InferRequest, answer: Answer, endpoint: str, traceparent: str
) -> None:
    served = answer.served
    choice = requested_outputs(request, served.model.facts.signature)
    datatypes = served.model.datatypes
    body, json_length = encode_response(
        model_name=endpoint,
        model_version=served.version,
        request_id=request.id,
        parameters={"prediction_id": answer.prediction_id, "role": served.role},
        outputs=[(name, datatypes[name], answer.outputs[name]) for name in choice.names],
        binary=choice.binary,
    )
    headers = [
        JSON if json_length is None else _BINARY,
        (b"x-prediction-id", answer.prediction_id.encode()),
        (b"traceparent", traceparent.encode()),
    ]
    if json_length is not None:
        headers.append((b"inference-header-content-length", b"%d" % json_length))
    await send_bytes(send, 200, body, headers)


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
