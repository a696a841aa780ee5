"""The routes of the Open Inference Protocol as data."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.errors import (
    AuditionError,
    BodyTooLarge,
    Forbidden,
    InvalidInput,
    InvalidName,
    JournalUnavailable,
    ModelFailed,
    ModelTimedOut,
    Overloaded,
    StoreUnavailable,
    TooManyAttempts,
    Unauthenticated,
    UnknownEndpoint,
    UnknownVersion,
    UnsupportedEncoding,
)
from gateway.protocols.oip_documents import (
    AnswerDocument,
    LiveDocument,
    MetadataDocument,
    ModelReadyDocument,
    ReadyDocument,
    ServerDocument,
)
from gateway.protocols.oip_request import HEADER_LENGTH, ParsedRequest
from gateway.protocols.operation import BINARY_TYPE, JSON_TYPE, Operation

SERVER, LIVE, READY = "/v2", "/v2/health/live", "/v2/health/ready"
MODEL = "/v2/models/{endpoint}"

_Request = ParsedRequest[list[Any]]
_Number = Annotated[str, Meta(pattern="^[0-9]{1,19}$")]


class InferHeaders(msgspec.Struct, kw_only=True):
    """What a request may say beside its body."""

    header_length: Annotated[
        _Number | None,
        Meta(
            description="With binary tensors: the length of the JSON in bytes. Behind it follow "
            "the tensors whose parameters hold `binary_data_size`, little-endian, in order."
        ),
    ] = msgspec.field(name=HEADER_LENGTH, default=None)
    unit: Annotated[
        str | None, Meta(description="Who is to stay with one version under a split.")
    ] = msgspec.field(name="X-Unit", default=None)
    traceparent: Annotated[
        str | None, Meta(description="The trace that the request is part of, as W3C has it.")
    ] = None


_KEYED = (Unauthenticated, Forbidden, TooManyAttempts, StoreUnavailable, UnsupportedEncoding)
_OF_MODEL = (*_KEYED, UnknownEndpoint, InvalidName)
_OF_RUN = (InvalidInput, BodyTooLarge, ModelFailed, ModelTimedOut, Overloaded, JournalUnavailable)
_EXAMPLE = {
    "id": "42",
    "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0.5]}],
    "parameters": {"unit": "customer-7", "attributes": {"region": "north"}},
}


def _open(path: str, summary: str, document: Any, *, may_be_unready: bool = False) -> Operation:
    media = {JSON_TYPE: document}
    return Operation(
        method="GET",
        path=path,
        needs=None,
        summary=summary,
        gives={200: media, 503: media} if may_be_unready else {200: media},
        refuses=(UnsupportedEncoding,),
    )


def _told(path: str, summary: str, document: Any, *refuses: type[AuditionError]) -> Operation:
    return Operation(
        method="GET",
        path=path,
        needs="infer",
        may_be_open=True,
        summary=summary,
        gives={200: {JSON_TYPE: document}},
        refuses=refuses,
    )


def _infer(path: str, summary: str, *, is_pinned: bool) -> Operation:
    return Operation(
        method="POST",
        path=path,
        needs="operate" if is_pinned else "infer",
        may_be_open=True,
        summary=summary,
        headers=InferHeaders,
        takes={JSON_TYPE: _Request, BINARY_TYPE: bytes},
        gives={200: {JSON_TYPE: AnswerDocument, BINARY_TYPE: bytes}},
        carries={
            "X-Prediction-Id": "the id that labels name",
            "Traceparent": "the trace that the answer is part of",
            HEADER_LENGTH: "with binary outputs: the length of the JSON before them",
        },
        refuses=(*_OF_MODEL, *_OF_RUN, *([UnknownVersion] if is_pinned else [])),
        examples=(_EXAMPLE,),
    )


def live(path: str) -> Operation:
    """Liveness, at a path."""
    return _open(path, "Whether the worker runs.", LiveDocument)


def ready(path: str) -> Operation:
    """Readiness, at a path."""
    return _open(
        path, "Whether the worker may be sent traffic.", ReadyDocument, may_be_unready=True
    )


_VERSION = f"{MODEL}/versions/{{version}}"

OPERATIONS = (
    live(LIVE),
    ready(READY),
    _told(SERVER, "Name, version and extensions of the server.", ServerDocument, *_KEYED),
    _told(MODEL, "Inputs, outputs and loaded versions.", MetadataDocument, *_OF_MODEL),
    _told(f"{MODEL}/ready", "Whether the endpoint is served.", ModelReadyDocument, *_OF_MODEL),
    _told(
        _VERSION,
        "Inputs and outputs of a version.",
        MetadataDocument,
        *(*_OF_MODEL, UnknownVersion),
    ),
    _told(
        f"{_VERSION}/ready",
        "Whether a version is loaded.",
        ModelReadyDocument,
        *(*_OF_MODEL, UnknownVersion),
    ),
    _infer(f"{MODEL}/infer", "A prediction; the rollout picks the version.", is_pinned=False),
    _infer(
        f"{_VERSION}/infer",
        "A prediction by a named version; where the endpoint allows pinning, infer suffices.",
        is_pinned=True,
    ),
)
