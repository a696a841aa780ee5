"""The seam to the control store, and the rows that cross it.

Everything that more than one process must agree on goes through here: rollouts and their
history, registrations, verdicts, keys, and what each process last said of itself. Nothing
of a single request ever does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.core.decisions import Decision
from gateway.core.registration import Terms
from gateway.core.rollout import Command
from gateway.core.routes import Rollout


class Registration(msgspec.Struct, frozen=True):
    """A challenger's fixed terms. `number` counts the registrations of an endpoint from 1."""

    endpoint: str
    number: int
    version: str
    champion: str
    terms: Terms
    digest: str  # of the terms
    level: float  # the α_j that its verdict must reach, fixed here
    opened_epoch: int
    opened_at_us: int
    closed_epoch: int | None = None
    closed_reason: str = ""


class Checkpoint(msgspec.Struct, frozen=True):
    """What the judge had seen and said at one moment of one registration.

    `cut_us` is the endpoint's clock up to which rows were included, `covered` the end, in
    bytes of the whole journal, that had been read of each writer. Evidence and verdict are
    JSON, so that an auditor needs nothing of ours to read them.
    """

    endpoint: str
    registration: int
    number: int
    at_us: int
    cut_us: int
    covered: dict[str, int]
    evidence: msgspec.Raw
    verdict: msgspec.Raw


class WorkerReport(msgspec.Struct, frozen=True):
    """What a worker last said of itself; it is known by its journal writer's id."""

    writer_id: str
    pid: int
    host: str
    at_us: int
    epochs: dict[str, int]
    loaded: dict[str, list[str]]  # endpoint → digests that are loaded and warm
    problem: str = ""
    unrecorded_rows: int = 0  # answered without a record, where the operator allows that


class EvaluatorReport(msgspec.Struct, frozen=True):
    """What the Evaluator last said of itself: cursors, books and lags, as JSON."""

    at_us: int
    pid: int
    body: msgspec.Raw


class Key(msgspec.Struct, frozen=True):
    """An access key, known only by its SHA-256."""

    name: str
    sha256: str
    role: str
    endpoints: tuple[str, ...]  # empty: all
    created_at_us: int


class ControlStore(Protocol):
    """Where the state is that outlives processes.

    Every method may raise StoreUnavailable. Reads see everything committed before them.
    """

    def endpoints(self) -> list[str]:
        """Names of all endpoints, sorted."""

    def epochs(self) -> dict[str, int]:
        """The epoch that each endpoint is at: what a poll can afford to read."""

    def rollout(self, endpoint: str, *, epoch: int | None = None) -> Rollout:
        """The rollout at `epoch` (now, if None). Raises UnknownEndpoint."""

    def create(self, rollout: Rollout, *, actor: str, reason: str, at_us: int) -> None:
        """Begin an endpoint at epoch 1. Raises Conflict if it exists."""

    def commit(
        self,
        rollout: Rollout,
        *,
        command: Command,
        actor: str,
        reason: str,
        at_us: int,
        opened: Sequence[Registration] = (),
        closed: Mapping[int, str] | None = None,
        require_verdict: tuple[int, str] | None = None,
    ) -> Decision:
        """Write `rollout` if the stored epoch is the one before its own, all or nothing.

        `closed` maps registration numbers to the reason. `require_verdict` is (registration
        number, verdict kind): the latest checkpoint must say so in the same transaction.
        Raises Conflict with the current epoch, or Refused where the verdict is another.
        """

    def decisions(self, endpoint: str) -> list[Decision]:
        """The decision log, oldest first. Raises UnknownEndpoint."""

    def head(self, endpoint: str) -> str:
        """The hash of the newest decision, kept apart from the log so that a cut tail shows."""

    def rollout_digests(self, endpoint: str) -> dict[int, str]:
        """Epoch → SHA-256 of that epoch's rollout as it is stored now."""

    def registrations(self, endpoint: str) -> list[Registration]:
        """All registrations, by number."""

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Append. Raises Conflict unless `number` follows the latest of its registration."""

    def checkpoints(
        self, endpoint: str, registration: int, *, latest_only: bool = False
    ) -> list[Checkpoint]:
        """The checkpoints of a registration, oldest first."""

    def report_worker(self, report: WorkerReport) -> None:
        """Replace what this worker last said."""

    def workers(self) -> list[WorkerReport]:
        """The last word of each worker that ever reported and was not forgotten."""

    def forget_workers(self, writer_ids: Sequence[str]) -> None:
        """Drop the reports of workers that are known to be gone."""

    def report_evaluator(self, report: EvaluatorReport) -> None:
        """Replace what the Evaluator last said."""

    def evaluator(self) -> EvaluatorReport | None:
        """The Evaluator's last word; None before its first."""

    def add_key(self, key: Key) -> None:
        """Raises Conflict if the name is taken."""

    def keys(self) -> list[Key]:
        """All keys."""

    def change_token(self) -> int:
        """A number that differs after another process changed anything; cheap to poll."""
