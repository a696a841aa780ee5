"""Operations over a real store, with workers that report."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.core.routes import Rollout
from gateway.judge.changes import Change, Intent
from gateway.judge.operations import Operations
from gateway.ports import EvaluatorReport, WorkerReport
from gateway.stores.sql import SqlStore
from tests.rollouts import Shelf, facts
from tests.verdicts import checkpoint_of

WORKER, OTHER = "a" * 12, "b" * 12


class Desk:
    """Operations over a store, one live worker that has loaded everything, and a clock."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.live = {WORKER}
        self.shelf = Shelf(*(facts(version) for version in "123"))
        self.now_us = 1_000_000
        self.operations = Operations(
            store,
            clock_us=lambda: self.now_us,
            live_workers=lambda: self.live,
            repository=self.shelf,
            acknowledge_within_s=0,
        )

    def report(self, writer_id: str = WORKER, *, loaded: str = "123", epoch: int = 0) -> None:
        """Let a worker say what it has loaded."""
        digests = [facts(version).digest for version in loaded]
        self.store.report_worker(
            WorkerReport(writer_id, 1, "h", self.now_us, {"demo": epoch}, {"demo": digests})
        )

    def rollout(self) -> Rollout:
        """The rollout now."""
        return self.store.rollout("demo")

    def intent(self, reason: str = "because", *, epoch: int | None = None) -> Intent:
        """An intent decided on the epoch now, unless another is given."""
        expected = self.rollout().epoch if epoch is None else epoch
        return Intent(actor="ada", reason=reason, expected_epoch=expected)

    def challenge(self, version: str = "2", **options: Any) -> Change:
        """Challenge with the intent of now."""
        return self.operations.challenge("demo", version, intent=self.intent(), **options)

    def promote(self, version: str = "2", **options: Any) -> Change:
        """Promote with the intent of now."""
        return self.operations.promote("demo", version, intent=self.intent(), **options)

    def say(self, registration: int, kind: str) -> None:
        """Let the judge say something of a registration."""
        number = len(self.store.checkpoints("demo", registration)) + 1
        opened = self.store.registrations("demo")[registration - 1]
        self.store.report_evaluator(EvaluatorReport(self.now_us, 1, msgspec.Raw(b"{}")))
        self.store.add_checkpoint(
            checkpoint_of(
                opened, kind, number=number, at_us=self.now_us, reasons=[f"superiority: {kind}"]
            )
        )
