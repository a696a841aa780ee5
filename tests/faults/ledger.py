"""What is on disk of a gateway's state: every record of every journal, and the books."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

from gateway.archive.books import Books, books
from gateway.archive.comparisons import Scope
from gateway.archive.tables import ArchiveReader
from gateway.core.records import PredictionRecord, ShadowRecord
from gateway.journal.inspect import stats
from gateway.journal.reader import Damage, JournalTail, end_offset, live_writers, writer_ids
from gateway.ports import Registration
from gateway.stores.sql import make_store
from tests.serving_process import ServingProcess


class Ledger:
    """The state folder of a gateway, read past everything that keeps state of its own."""

    def __init__(self, server: ServingProcess) -> None:
        self.state = server.state
        self.store = make_store(f"sqlite:///{server.state / 'control.sqlite'}")

    def predictions(self) -> list[PredictionRecord]:
        """Every prediction of every worker that ever lived."""
        return [r for r in self._records("journal") if isinstance(r, PredictionRecord)]

    def shadows(self) -> list[ShadowRecord]:
        """Every shadow frame, also those that were written twice."""
        return [r for r in self._records("shadow") if isinstance(r, ShadowRecord)]

    def torn(self) -> list[Damage]:
        """What holds no good frame; fails unless it is the end of a journal."""
        found = []
        for root in ("journal", "shadow"):
            for tail in self._tails(root):
                list(tail.drain())
                for damage in tail.damages:
                    assert damage.end == end_offset(self.state / root / tail.writer_id), damage
                found += tail.damages
        return found

    def accepted_rows(self) -> int:
        """What all workers said last of how many rows they had accepted."""
        return sum(one.accepted_rows for one in stats(self.state / "journal"))

    def books(self, endpoint: str) -> dict[str, Books]:
        """The books of every registration, by version, counted anew from the archive."""
        with ArchiveReader(self.state / "archive") as reader:
            return {
                one.version: books(reader, self._scope(one))
                for one in self.store.registrations(endpoint)
            }

    def _scope(self, registration: Registration) -> Scope:
        endpoint = registration.endpoint
        until = registration.closed_epoch or self.store.rollout(endpoint).epoch + 1
        epochs = range(registration.opened_epoch, until)
        rollouts = {epoch: self.store.rollout(endpoint, epoch=epoch) for epoch in epochs}
        return Scope(registration=registration, rollouts=rollouts)

    def compared(self, endpoint: str, *, by: Sequence[str] = ("version",)) -> dict[Any, int]:
        """Archived rows of distinct shadow runs."""
        columns = ", ".join(by)
        with ArchiveReader(self.state / "archive") as reader:
            found = reader.table(
                f"SELECT {columns}, count(*) AS rows FROM (SELECT DISTINCT prediction_id, row, "
                f"registration, version, status FROM {reader.scan('shadows', endpoint)}) "
                f"GROUP BY ALL"
            ).to_pylist()
        return {tuple(row[name] for name in by): row["rows"] for row in found}

    def workers(self) -> list[psutil.Process]:
        """The workers that live and have said that they serve."""
        live, found = live_writers(self.state / "journal"), []
        for worker in self.store.workers():
            if worker.writer_id in live:
                with suppress(psutil.NoSuchProcess):  # it has died since
                    found.append(psutil.Process(worker.pid))
        return found

    def lanes(self, endpoint: str) -> dict[str, dict[str, Any]]:
        """What the Evaluator last said of each challenger."""
        said = self.store.evaluator()
        body = {} if said is None else msgspec.json.decode(said.body)
        found: dict[str, dict[str, Any]] = body.get("endpoints", {}).get(endpoint, {})
        return found.get("challengers", {})

    def _tails(self, root: str) -> list[JournalTail]:
        folder: Path = self.state / root
        return [JournalTail(folder / name) for name in writer_ids(folder)]

    def _records(self, root: str) -> list[Any]:
        return [entry.record for tail in self._tails(root) for entry in tail.drain()]
