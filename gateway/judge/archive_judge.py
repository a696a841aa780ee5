"""The judge as the Evaluator calls it: one open reader, and what the store knows beside it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from gateway.archive.comparisons import Scope
from gateway.archive.excerpt import new_files
from gateway.archive.final_labels import latest_observation_us
from gateway.archive.objects import Objects
from gateway.archive.tables import ArchiveReader
from gateway.core.routes import Rollout
from gateway.judge.accounts import Accounts
from gateway.judge.audit import require_sound
from gateway.judge.evaluation import evaluate, says_the_same
from gateway.ports import Checkpoint, ControlStore, Registration


class ArchiveJudge:
    """Reaches checkpoints over one archive. Use it in one thread."""

    def __init__(
        self, folder: Path, store: ControlStore, *, objects: Objects | None = None
    ) -> None:
        """The archive is in `folder`, or, if given, in `objects`, and its ledger in `folder`."""
        self._reader = ArchiveReader(folder, objects=objects)
        self.accounts = Accounts(self._reader, folder)
        self._store = store
        self._rollouts: dict[tuple[str, int], Rollout] = {}
        self._seen_labels: dict[str, dict[str, int]] = {}
        self._observed_us: dict[str, int] = {}

    def judge(
        self, registration: Registration, cut_us: int, covered: Mapping[str, int]
    ) -> Checkpoint | None:
        """The next checkpoint, or None where it would say what the last one says.

        Raises Refused where the registration or the checkpoint before it was edited.
        """
        self._reader.refresh()
        latest = self._store.checkpoints(
            registration.endpoint, registration.number, latest_only=True
        )
        previous = latest[0] if latest else None
        require_sound(registration, self._store.decisions(registration.endpoint), previous)
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

        Only label files with rows that were not looked at before are read.
        """
        self._reader.refresh()
        covered = self._reader.manifest.covered
        fresh = new_files(
            self._reader, ("labels", ""), self._seen_labels.get(endpoint, {}), covered
        )
        if fresh:
            latest = latest_observation_us(self._reader, endpoint, fresh)
            self._observed_us[endpoint] = max(self._observed_us.get(endpoint, 0), latest)
        self._seen_labels[endpoint] = covered
        return self._observed_us.get(endpoint, 0)

    def keep_books(
        self, registrations: Iterable[Registration], rollouts: Mapping[str, Rollout]
    ) -> bool:
        """Take new rows into the accounts of what is open; whether there are more.

        Raises whatever is wrong; the accounts then stay as they were.
        """
        self._reader.refresh()
        scopes = [Scope(registration=one, rollouts=self._rollouts_of(one)) for one in registrations]
        return self.accounts.advance(scopes, rollouts)

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
