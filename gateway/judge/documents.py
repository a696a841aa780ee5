"""The documents that operators read, as types: what `status.py` makes and the API describes.

Rules: these are the documents as they stand on the wire. Where stored JSON is passed on as it
is, the field has the type that it was written from. Times are µs since the epoch.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from gateway.core.decisions import Decision
from gateway.core.policies.policy import Gate
from gateway.core.verdict import Kind
from gateway.ports import Registration


class VersionDocument(TypedDict):
    """A version and the SHA-256 of its file."""

    version: str
    digest: str


class KnownVersionDocument(VersionDocument):
    """A version of the endpoint; `role` null: it gets no traffic."""

    role: str | None


class VerdictDocument(TypedDict):
    """A `Verdict` as it is stored; of a challenger that nobody judged yet, the first four."""

    kind: Kind
    reasons: list[str]
    estimate: float | None
    n: int
    gates: NotRequired[list[Gate]]
    estimate_greatest: NotRequired[float | None]
    lower: NotRequired[float]
    upper: NotRequired[float]
    level: NotRequired[float]
    upper_level: NotRequired[float]
    assumptions: NotRequired[list[str]]


class ChallengerDocument(VersionDocument):
    """A challenger, its share, and what was said of it last."""

    registration: int
    sample_bp: int
    split_bp: int
    verdict: VerdictDocument
    shadow: dict[str, Any] | None
    champion: NotRequired[str]
    level: NotRequired[float]
    opened_at_us: NotRequired[int]
    opened_epoch: NotRequired[int]
    judged_at_us: NotRequired[int]
    cut_us: NotRequired[int]
    counts: NotRequired[dict[str, Any] | None]
    accounting: NotRequired[dict[str, Any] | None]


class WorkerDocument(TypedDict):
    """A worker; one that has said nothing yet has its id only."""

    writer_id: str
    is_gone: bool
    is_lagging: bool
    pid: NotRequired[int]
    host: NotRequired[str]
    epoch: NotRequired[int | None]
    loaded: NotRequired[list[str]]
    problem: NotRequired[str]
    unrecorded_rows: NotRequired[int]
    age_s: NotRequired[float]


class EvaluatorDocument(TypedDict):
    """What the Evaluator last said; what it did not say is null."""

    pid: int
    caught_up: bool | None
    problem: str
    damages: list[Any]
    age_s: float
    lag_bytes: int
    clock_us: int | None
    labels: dict[str, Any] | None
    shadow_tax: dict[str, Any] | None


class StatusDocument(TypedDict):
    """An endpoint now. `evaluator` null: none has reported yet."""

    endpoint: str
    epoch: int
    phase: str
    champion: VersionDocument
    previous: VersionDocument | None
    split_bp: dict[str, int]
    challengers: list[ChallengerDocument]
    workers: list[WorkerDocument]
    evaluator: EvaluatorDocument | None


class CheckpointDocument(TypedDict):
    """What the judge had seen and said at one moment of a registration."""

    number: int
    at_us: int
    cut_us: int
    covered: dict[str, int]
    evidence: dict[str, Any]
    verdict: VerdictDocument


class RegistrationDocument(Registration, frozen=True, kw_only=True):
    """A registration and its latest checkpoint; null: nothing has been judged yet."""

    checkpoint: CheckpointDocument | None


class EvidenceDocument(TypedDict):
    """Every registration of an endpoint, by number."""

    endpoint: str
    epoch: int
    registrations: list[RegistrationDocument]


class DecisionsDocument(TypedDict):
    """The decision log, oldest first; `faults` is what a check of its hashes found."""

    endpoint: str
    head: str
    faults: list[str]
    decisions: list[Decision]


class VersionsDocument(TypedDict):
    """The versions that the rollout knows; `not_added` are files that it does not."""

    endpoint: str
    epoch: int
    versions: list[KnownVersionDocument]
    not_added: list[str]
