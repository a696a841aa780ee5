"""The operators' API as data: every route with the right it needs, its bodies and its answers.

Rules: the bodies here are what the handlers decode, the documents what they encode. Bounds
that the use cases check themselves, with better words, are only described here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import Meta

from gateway.core.access import ROLES
from gateway.core.split import WHOLE_BP
from gateway.errors import (
    BodyTooLarge,
    Conflict,
    Forbidden,
    InvalidInput,
    InvalidModel,
    InvalidName,
    InvalidSetting,
    Refused,
    StoreUnavailable,
    TooManyAttempts,
    Unauthenticated,
    UnknownEndpoint,
    UnknownVersion,
    UnsupportedEncoding,
)
from gateway.judge.changes import Change
from gateway.judge.documents import (
    DecisionsDocument,
    EvidenceDocument,
    StatusDocument,
    VersionsDocument,
)
from gateway.protocols.operation import BINARY_TYPE, JSON_TYPE, Media, Operation, ResourceName

#: An epoch as `If-Match` has it: the ETag of the status, weak or not, or the bare number.
EPOCH_TAG = '^(W/)?"?[0-9]{1,18}"?$'
ENDPOINT = "/v1/endpoints/{endpoint}"

_BasisPoints = Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": WHOLE_BP})]
_RoleName = Annotated[str, Meta(extra_json_schema={"enum": list(ROLES)})]


class ReasonBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Why, for the decision log: at most 1,000 printable characters."""

    reason: str = ""


class SplitBody(ReasonBody):
    """Basis points by version, 10,000 together."""

    weights_bp: dict[ResourceName, _BasisPoints]


class ShadowBody(ReasonBody):
    """The share of predictions that the version's shadow sees, in basis points."""

    version: ResourceName
    sample_bp: _BasisPoints


class ChallengeBody(ReasonBody):
    """`sample_bp` null: what the endpoint file says."""

    sample_bp: _BasisPoints | None = None


class PromotionBody(ReasonBody):
    """`force` promotes without a verdict and needs a reason."""

    version: ResourceName
    force: bool = False


class RollbackBody(ReasonBody):
    """Needs a reason."""


class KeyBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`endpoints` empty: all of them."""

    name: ResourceName
    role: _RoleName
    endpoints: list[ResourceName] = []


class NewVersionQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The name of the version that is taken in, and why."""

    version: ResourceName
    reason: str = ""


class ChangeHeaders(msgspec.Struct, kw_only=True):
    """The epoch that a change was decided on."""

    if_match: Annotated[str, Meta(pattern=EPOCH_TAG)] = msgspec.field(name="If-Match")


class EndpointsDocument(TypedDict):
    """The endpoints that the key covers."""

    endpoints: list[StatusDocument]


class KeyDocument(TypedDict):
    """A key without its secret. `endpoints` empty: all of them."""

    name: str
    role: str
    endpoints: list[str]
    created_at_us: int


class NewKeyDocument(KeyDocument):
    """A key that was just made; its token is nowhere else."""

    token: str


class KeysDocument(TypedDict):
    """All keys, by name."""

    keys: list[KeyDocument]


#: What the gate and the routing of any route under /v1 refuse.
GATE = (Unauthenticated, Forbidden, TooManyAttempts, StoreUnavailable, UnsupportedEncoding)
#: The same of a route below one endpoint.
OF_ENDPOINT = (*GATE, UnknownEndpoint, InvalidName)
_OF_CHANGE = (*OF_ENDPOINT, InvalidInput, BodyTooLarge, Conflict, Refused, InvalidSetting)
_ETAG = {"ETag": "the epoch, to be sent back as If-Match"}


def _read(path: str, summary: str, document: Any, carries: Mapping[str, str]) -> Operation:
    return Operation(
        method="GET",
        path=path,
        needs="view",
        summary=summary,
        gives={200: {JSON_TYPE: document}},
        carries=carries,
        refuses=OF_ENDPOINT,
    )


def _change(
    method: str,
    path: str,
    summary: str,
    takes: Any = None,
    *,
    query: Any = None,
    example: Any = None,
) -> Operation:
    media: Media = {} if takes is None else {JSON_TYPE: takes}
    return Operation(
        method=method,
        path=ENDPOINT + path,
        needs="operate",
        summary=summary,
        takes=media,
        query=query,
        headers=ChangeHeaders,
        gives={200: {JSON_TYPE: Change}},
        carries=_ETAG,
        refuses=(*_OF_CHANGE, UnknownVersion, InvalidModel),
        also={428: "If-Match is missing"},
        examples=() if example is None else (example,),
    )


LIST_ENDPOINTS = Operation(
    method="GET",
    path="/v1/endpoints",
    needs="view",
    summary="The endpoints that the key covers, with their status.",
    gives={200: {JSON_TYPE: EndpointsDocument}},
    refuses=(*GATE, UnknownEndpoint),
)
SHOW_STATUS = _read(
    ENDPOINT, "Phase, split, challengers, verdicts, workers.", StatusDocument, _ETAG
)
SHOW_EVIDENCE = _read(
    f"{ENDPOINT}/evidence",
    "Registrations with terms, evidence and verdict.",
    EvidenceDocument,
    _ETAG,
)
SHOW_DECISIONS = _read(
    f"{ENDPOINT}/decisions",
    "The decision log, and what a check of it found.",
    DecisionsDocument,
    {},
)
LIST_VERSIONS = _read(
    f"{ENDPOINT}/versions", "The versions of an endpoint.", VersionsDocument, _ETAG
)
PUT_SPLIT = _change(
    "PUT",
    "/split",
    "Share the answers.",
    SplitBody,
    example={"weights_bp": {"1": 9000, "2": 1000}, "reason": "a tenth to begin with"},
)
PUT_SHADOW = _change(
    "PUT",
    "/shadow",
    "Change what a challenger's shadow sees.",
    ShadowBody,
    example={"version": "2", "sample_bp": 2500, "reason": "the runner is slow"},
)
CHALLENGE = _change(
    "PUT",
    "/challengers/{version}",
    "Register a challenger, and run it in shadow.",
    ChallengeBody,
    example={"sample_bp": 10000, "reason": "trained on May"},
)
WITHDRAW = _change(
    "DELETE",
    "/challengers/{version}",
    "Close a challenger's registration.",
    query=ReasonBody,
)
PROMOTE = _change(
    "POST",
    "/promotions",
    "Make a challenger the champion.",
    PromotionBody,
    example={"version": "2", "force": False, "reason": "its verdict is PROMOTE"},
)
ROLL_BACK = _change(
    "POST",
    "/rollbacks",
    "Make the previous champion the champion again.",
    RollbackBody,
    example={"reason": "support hears complaints"},
)
ADD_VERSION = msgspec.structs.replace(
    _change("POST", "/versions", "Take in the ONNX file that is the body.", query=NewVersionQuery),
    takes={BINARY_TYPE: bytes, "application/onnx": bytes},
)
LIST_KEYS = Operation(
    method="GET",
    path="/v1/keys",
    needs="admin",
    summary="Names and roles of the keys; the keys themselves are not known to us.",
    gives={200: {JSON_TYPE: KeysDocument}},
    refuses=GATE,
)
CREATE_KEY = Operation(
    method="POST",
    path="/v1/keys",
    needs="admin",
    summary="Make a key; its token is in this answer and nowhere else.",
    takes={JSON_TYPE: KeyBody},
    gives={201: {JSON_TYPE: NewKeyDocument}},
    refuses=(*GATE, InvalidInput, BodyTooLarge, InvalidName, Conflict, UnknownEndpoint),
    examples=({"name": "fraud-labels", "role": "label", "endpoints": []},),
)

OPERATIONS = (
    LIST_ENDPOINTS,
    SHOW_STATUS,
    SHOW_EVIDENCE,
    SHOW_DECISIONS,
    LIST_VERSIONS,
    ADD_VERSION,
    CHALLENGE,
    WITHDRAW,
    PUT_SHADOW,
    PUT_SPLIT,
    PROMOTE,
    ROLL_BACK,
    LIST_KEYS,
    CREATE_KEY,
)
