"""One inference request of the Open Inference Protocol, from its bytes to the bytes of its answer.

Decode, call the data plane, encode; nothing is decided here. Three doors lead here: the ASGI
application, for short runs the protocol that reads the socket (direct.py), and gRPC
(oip_grpc.py), which has bytes of its own but begins and opens a request by the same steps.
What one of them answers the others would have answered too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from gateway.core.access import Right
from gateway.core.tensors import Array
from gateway.errors import AuditionError, InvalidInput
from gateway.protocols.asgi import (
    JSON,
    Headers,
    Response,
    error_response,
    number_in,
    require_known_type,
)
from gateway.protocols.oip_codec import (
    InferRequest,
    decode_inputs,
    decode_request,
    encode_response,
    request_context,
    requested_outputs,
)
from gateway.serving.dataplane import Answer, Call, DataPlane, Opened
from gateway.serving.routes import Routes, Table
from gateway.serving.trace import Tracer

#: (headers, right, endpoint) → the client's name. Raises Unauthenticated or Forbidden.
Authorise = Callable[[Headers, Right, str], str]

_BINARY = (b"content-type", b"application/octet-stream")


class Target(NamedTuple):
    """What a path asks for; `pinned` names a version past the split."""

    table: Table
    pinned: str | None


class Decoded(msgspec.Struct, gc=False):
    """A request whose tensors were read and which has its prediction id."""

    request: InferRequest
    arrays: dict[str, Array]
    opened: Opened


class Inference:
    """Answers inference requests over the routes of a worker."""

    def __init__(
        self,
        *,
        routes: Routes,
        dataplane: DataPlane,
        tracer: Tracer,
        authorise: Authorise,
        max_body_bytes: int,
    ) -> None:
        self.max_body_bytes = max_body_bytes
        self._routes = routes
        self._dataplane = dataplane
        self._tracer = tracer
        self._authorise = authorise
        self._paths: dict[str, Target] = {}
        self._paths_of: object = None

    def target(self, path: str) -> Target | None:
        """What an exact path leads to, under the routes of now."""
        if self._paths_of is not self._routes.tables:
            self._index_paths()
        return self._paths.get(path)

    def named(self, endpoint: str, version: str | None) -> Target | None:
        """What a name, and a pinned version if one is given, leads to under the routes of now."""
        table = self._routes.tables.get(endpoint)
        if table is None or (version is not None and version not in table.versions):
            return None
        return Target(table, version)

    def call(self, target: Target, headers: Headers) -> Call:
        """Begin a request: who asks, and in which trace. Raises Unauthenticated or Forbidden."""
        table, pinned = target
        accepted_at_us = time.time_ns() // 1000
        is_open = pinned is None or table.rules.allow_pinned
        client = self._authorise(headers, "infer" if is_open else "operate", table.rollout.endpoint)
        traceparent = headers.get(b"traceparent")
        trace = self._tracer.begin(None if traceparent is None else traceparent.decode("latin-1"))
        return Call(trace, accepted_at_us, client, None, pinned)

    async def answer(self, target: Target, call: Call, headers: Headers, body: bytes) -> Response:
        """The answer to a request that was read whole. Raises as the data plane does."""
        try:
            decoded = self._decode(target, call, headers, body)
        except AuditionError as error:
            await self.refuse(target, call, error)
            raise
        answer = await self._dataplane.answer(decoded.opened, decoded.arrays)
        return _encoded(decoded.request, answer, call)

    def answer_now(self, target: Target, headers: Headers, body: bytes) -> Response | None:
        """The answer, error or not, if it needs no waiting; None, and nothing done, if it does."""
        table = target.table
        if table.rules.durability == "disk" or len(body) > self.max_body_bytes:
            return None
        if table.only is not None and not table.only.inline:
            return None  # before it is decoded in vain
        try:
            call = self.call(target, headers)
            try:
                require_known_type(headers)
                decoded = self._decode(target, call, headers, body)
            except AuditionError as error:
                self._dataplane.refuse(target.table, call, error)
                raise
            if not self._dataplane.is_short(decoded.opened):
                return None
            answer = self._dataplane.answer_now(decoded.opened, decoded.arrays)
            return _encoded(decoded.request, answer, call)
        except AuditionError as error:
            return error_response(error)

    def open(self, target: Target, call: Call, headers: Headers, request: InferRequest) -> Decoded:
        """Read what a request says and its tensors, and give it its id. Raises InvalidInput."""
        table = target.table
        _fill(call, request, headers, table)
        arrays = decode_inputs(request, table.inputs, ())
        if table.batched and arrays:
            call.rows = next(iter(arrays.values())).shape[0]
        return Decoded(request, arrays, self._dataplane.open(table, call))

    async def refuse(self, target: Target, call: Call, error: AuditionError) -> None:
        """Journal a request that could not be read or decoded."""
        self._dataplane.refuse(target.table, call, error)
        await self._dataplane.settle(target.table)

    def _index_paths(self) -> None:
        self._paths_of = tables = self._routes.tables
        self._paths = {}
        for endpoint, table in tables.items():
            model = f"/v2/models/{endpoint}"
            self._paths[f"{model}/infer"] = Target(table, None)
            for version in table.versions:
                self._paths[f"{model}/versions/{version}/infer"] = Target(table, version)

    def _decode(self, target: Target, call: Call, headers: Headers, body: bytes) -> Decoded:
        length = headers.get(b"inference-header-content-length")
        request = decode_request(body, None if length is None else _json_length(length))
        return self.open(target, call, headers, request)


def _json_length(value: bytes) -> int:
    length = number_in(value)
    if length is None:
        raise InvalidInput("Inference-Header-Content-Length", "send a number of bytes")
    return length


def _fill(call: Call, request: InferRequest, headers: Headers, table: Table) -> None:
    """Write into `call` what the request says beside its tensors. Raises InvalidInput."""
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
            requested_outputs(request, table.versions[version].answers)


def _unit(value: bytes) -> str:
    text = value.decode("latin-1")
    if not 0 < len(text) <= 256 or not text.isprintable():
        raise InvalidInput("x-unit", "send 1 to 256 printable characters")
    return text


def _encoded(request: InferRequest, answer: Answer, call: Call) -> Response:
    served, record = answer.served, answer.record
    choice = requested_outputs(request, served.answers)
    datatypes = served.model.datatypes
    body, json_length = encode_response(
        model_name=record.endpoint,
        model_version=served.version,
        request_id=request.id,
        parameters={"prediction_id": record.prediction_id, "role": served.role},
        outputs=[(name, datatypes[name], answer.outputs[name]) for name in choice.names],
        binary=choice.binary,
    )
    headers = [
        JSON if json_length is None else _BINARY,
        (b"x-prediction-id", record.prediction_id.encode()),
        (b"traceparent", call.trace.traceparent.encode()),
    ]
    if json_length is not None:
        headers.append((b"inference-header-content-length", b"%d" % json_length))
    return Response(200, headers, body)
