"""The Open Inference Protocol v2 over gRPC: `inference.GRPCInferenceService`.

The same requests as over REST: begun, opened and journalled by the same code, answered from
the same data plane. Messages are read here and not by gRPC's own machinery, so that bytes
which are no message are refused like any other bad input.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from gateway.errors import AuditionError, InvalidInput, InvalidName, UnknownEndpoint, UnknownVersion
from gateway.protocols.asgi import Headers
from gateway.protocols.grpc_statuses import Context, answering
from gateway.protocols.oip_catalogue import IDENTITY, Catalogue, metadata
from gateway.protocols.oip_codec import requested_outputs
from gateway.protocols.oip_grpc_codec import encode_answer, infer_request, read_message
from gateway.protocols.oip_inference import Decoded, Inference, Target
from gateway.protocols.open_inference_pb2 import (
    ModelInferRequest,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from gateway.serving.dataplane import Answer, DataPlane

NAME = "inference.GRPCInferenceService"

#: What of a call's metadata is read; other metadata is the client's own business.
_READ = {name: name.encode() for name in ("authorization", "traceparent", "x-unit")}
_M = TypeVar("_M", bound=Message)


class InferenceService:
    """The calls of the service."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        inference: Inference,
        dataplane: DataPlane,
        is_ready: Callable[[], bool],
    ) -> None:
        self._catalogue = catalogue
        self._inference = inference
        self._dataplane = dataplane
        self._is_ready = is_ready
        self._under_way: set[asyncio.Task[Answer]] = set()

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a server dispatches to."""
        calls = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
        }
        return grpc.method_handlers_generic_handler(
            NAME,
            {name: grpc.unary_unary_rpc_method_handler(answering(c)) for name, c in calls.items()},
        )

    async def finish(self) -> None:
        """Return when the runs that their clients gave up are journalled."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _infer(self, body: bytes, context: Context) -> bytes:
        message, headers = read_message(body), _headers(context)
        target = self._target(message, headers)
        call = self._inference.call(target, headers)
        try:
            decoded = self._inference.open(target, call, headers, infer_request(message))
        except AuditionError as error:
            await self._inference.refuse(target, call, error)
            raise
        if self._dataplane.is_short(decoded.opened):
            answer = self._dataplane.answer_now(decoded.opened, decoded.arrays)
        else:
            answer = await self._answer_whatever_the_client_does(decoded)
        context.set_trailing_metadata(
            (
                ("x-prediction-id", answer.record.prediction_id),
                ("traceparent", call.trace.traceparent),
            )
        )
        return _encoded(decoded, answer, raw=bool(message.raw_input_contents))

    def _target(self, message: ModelInferRequest, headers: Headers) -> Target:
        endpoint, version = message.model_name, message.model_version or None
        target = self._inference.named(endpoint, version)
        if target is None:
            table = self._catalogue.find(headers, endpoint, version, infers=True)
            return Target(table, version)
        return target

    async def _answer_whatever_the_client_does(self, decoded: Decoded) -> Answer:
        # A deadline that passes cancels the call. The run under way is not: it would be missing
        # in the journal, and the slowest runs would be those that nobody ever judges.
        task = asyncio.ensure_future(self._dataplane.answer(decoded.opened, decoded.arrays))
        self._under_way.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Answer]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that an abandoned run warns nobody

    async def _live(self, _body: bytes, _context: Context) -> bytes:
        return ServerLiveResponse(live=True).SerializeToString()

    async def _ready(self, _body: bytes, _context: Context) -> bytes:
        return ServerReadyResponse(ready=self._is_ready()).SerializeToString()

    async def _model_ready(self, body: bytes, context: Context) -> bytes:
        asked = _read(ModelReadyRequest, body)
        try:
            self._catalogue.find(_headers(context), asked.name, asked.version or None, infers=False)
        except (UnknownEndpoint, UnknownVersion, InvalidName):
            # Not an error: public clients ask in order to hear no.
            return ModelReadyResponse(ready=False).SerializeToString()
        return ModelReadyResponse(ready=True).SerializeToString()

    async def _server_metadata(self, _body: bytes, context: Context) -> bytes:
        self._catalogue.authorise(_headers(context), "infer", "")
        return ServerMetadataResponse(**IDENTITY).SerializeToString()

    async def _model_metadata(self, body: bytes, context: Context) -> bytes:
        asked = _read(ModelMetadataRequest, body)
        version = asked.version or None
        table = self._catalogue.find(_headers(context), asked.name, version, infers=False)
        found = metadata(table, version)
        return ModelMetadataResponse(
            name=found["name"],
            versions=found["versions"],
            platform=found["platform"],
            inputs=[ModelMetadataResponse.TensorMetadata(**one) for one in found["inputs"]],
            outputs=[ModelMetadataResponse.TensorMetadata(**one) for one in found["outputs"]],
        ).SerializeToString()


def _headers(context: Context) -> Headers:
    """The metadata that is read, as REST has its headers."""
    return {
        _READ[name]: value.encode() if isinstance(value, str) else value
        for name, value in context.invocation_metadata() or ()
        if name in _READ
    }


def _read(kind: type[_M], body: bytes) -> _M:
    try:
        return kind.FromString(body)
    except DecodeError:
        raise InvalidInput("body", f"send a {kind.__name__}, its strings as UTF-8") from None


def _encoded(decoded: Decoded, answer: Answer, *, raw: bool) -> bytes:
    served, record = answer.served, answer.record
    choice = requested_outputs(decoded.request, served.answers)
    # The record holds every output as raw bytes already.
    written = {tensor.name: tensor for tensor in record.outputs}
    return encode_answer(
        model_name=record.endpoint,
        model_version=served.version,
        request_id=decoded.request.id,
        parameters={"prediction_id": record.prediction_id, "role": served.role},
        outputs=[written[name] for name in choice.names],
        raw=raw,
    )
