"""The judge as the Evaluator calls it: one open reader, and what the store knows beside it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gateway.archive.books import Books, LabelBooks, books, label_books
from gateway.archive.comparisons import Scope
from gateway.archive.final_labels import latest_observation_us
from gateway.archive.tables import ArchiveReader
from gateway.core.routes import Rollout
from gateway.judge.evaluation import evaluate, says_the_same
from gateway.judge.label_free import LabelFreeReport, label_free_report
from gateway.ports import Checkpoint, ControlStore, Registration


class ArchiveJudge:
    """Reaches checkpoints over the archive in one folder. Use it in one thread."""

    def __init__(self, folder: Path, store: ControlStore) -> None:
        self._reader = ArchiveReader(folder)
        self._store = store
        self._rollouts: dict[tuple[str, int], Rollout] = {}
        self._seen_labels: dict[str, set[str]] = {}
        self._observed_us: dict[str, int] = {}

    def judge(
        self, registration: Registration, cut_us: int, covered: Mapping[str, int]
    ) -> Checkpoint | None:
        """The next checkpoint, or None where it would say what the last one says."""
        self._reader.refresh()
        latest = self._store.checkpoints(
            registration.endpoint, registration.number, latest_only=True
        )
        previous = latest[0] if latest else None
        checkpoint = evaluate(
            self._reader,
            registration,
            self._rollouts_of(registration),
            previous,
            cut_us=cut_us,
            covered=covered,
            at_us=time.time_ns() // 1000,
        )
        return None if says_the_same(previous, checkpoint) else checkpoint

    def observed_until_us(self, endpoint: str) -> int:
        """The latest observation among the labels of the endpoint's predictions; 0 without any.

        Only label files that were not looked at before are read.
        """
        self._reader.refresh()
        seen = self._seen_labels.setdefault(endpoint, set())
        fresh = [file for file in self._reader.files("labels", "") if file.path not in seen]
        if fresh:
            latest = latest_observation_us(self._reader, endpoint, fresh)
            self._observed_us[endpoint] = max(self._observed_us.get(endpoint, 0), latest)
            seen.update(file.path for file in fresh)
        return self._observed_us.get(endpoint, 0)

    def books(self, registration: Registration) -> Books:
        """What became of every row of the registration, over the whole archive."""
        self._reader.refresh()
        rollouts = self._rollouts_of(registration)
        return books(self._reader, Scope(registration=registration, rollouts=rollouts))

    def label_free(self, registration: Registration) -> LabelFreeReport:
        """What can be said without labels, over the whole archive. Raises InvalidSetting."""
        self._reader.refresh()
        rollouts = self._rollouts_of(registration)
        return label_free_report(self._reader, Scope(registration=registration, rollouts=rollouts))

    def label_books(self, endpoint: str, rollout: Rollout) -> LabelBooks:
        """What became of every label of the endpoint."""
        self._reader.refresh()
        return label_books(
            self._reader,
            endpoint,
            maturity_us=rollout.rules.maturity_s * 1_000_000,
            event_time=rollout.rules.event_time,
        )

    def _rollouts_of(self, registration: Registration) -> Mapping[int, Rollout]:
        endpoint = registration.endpoint
        until = registration.closed_epoch or self._store.rollout(endpoint).epoch + 1
        return {
            epoch: self._rollout(endpoint, epoch)
            for epoch in range(registration.opened_epoch, until)
        }

    def _rollout(self, endpoint: str, epoch: int) -> Rollout:
        # An epoch never changes, so it is read once.
        key = (endpoint, epoch)
        if key not in self._rollouts:
            self._rollouts[key] = self._store.rollout(endpoint, epoch=epoch)
        return self._rollouts[key]


def as_json(found: Books | LabelBooks | LabelFreeReport) -> dict[str, Any]:
    """What was found as plain values, for a report."""
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain
