"""Following the control store: load what a new epoch needs, then swap, then say so.

Rules: the data plane never asks the store. When the store is gone, what was served last is
served on, also by a worker that starts then. A version is loaded and warmed before its epoch
is served, and a version that does not load leaves the worker on its last good epoch, with the
reason in its report, and is tried again every RETRY_EVERY_S: its file may have been on its way.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from gateway.core.routes import Rollout, VersionFacts
from gateway.errors import AuditionError, CorruptStore, StoreUnavailable, UnknownEndpoint
from gateway.ports import ControlStore, WorkerReport
from gateway.runtimes.onnx import OnnxModel
from gateway.serving.last_good import LastGood
from gateway.serving.routes import Routes, Table

POLL_EVERY_S = 0.05
REPORT_EVERY_S = 2.0
RETRY_EVERY_S = 5.0


class _Problem(NamedTuple):
    """Why an epoch is not served, and when it was last tried (monotonic)."""

    epoch: int
    reason: str
    tried_at_s: float

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self.tried_at_s >= RETRY_EVERY_S


class Watch:
    """Keeps the routes of one worker up to date and reports what it serves."""

    def __init__(
        self,
        *,
        store: ControlStore,
        routes: Routes,
        load: Callable[[VersionFacts], OnnxModel],
        writer_id: str,
        pid: int,
        host: str,
        unrecorded_rows: Callable[[], int],
        show_epoch: Callable[[str, int], None],
        preferred_provider: str,
        show_provider: Callable[[str, str, str], None],
        last_good: LastGood,
    ) -> None:
        self._store = store
        self._routes = routes
        self._load = load
        self._unrecorded_rows = unrecorded_rows
        self._show_epoch = show_epoch
        self._preferred_provider = preferred_provider
        self._show_provider = show_provider
        self._last_good = last_good
        self._writer_id, self._pid, self._host = writer_id, pid, host
        self._models: dict[str, OnnxModel] = {}
        self._problems: dict[str, _Problem] = {}
        self._token: int | None = None
        self._known: frozenset[str] = frozenset()
        self._reported_at = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether there are endpoints, and each of them is served at some epoch."""
        return bool(self._known) and self._known <= self._routes.tables.keys()

    async def run(self) -> None:
        """Poll for ever; cancelled at the end of the worker."""
        while True:
            await asyncio.sleep(POLL_EVERY_S)
            try:
                await asyncio.to_thread(self.step)
            except Exception:
                # A worker that no longer follows must not look as if it did: it says so, and
                # goes on trying.
                traceback.print_exc()
                await asyncio.sleep(RETRY_EVERY_S)

    def step(self) -> None:
        """One poll: catch up with the store if anything in it changed, and report."""
        try:
            changed = self._catch_up()
            if changed or time.monotonic() - self._reported_at >= REPORT_EVERY_S:
                self._report()
        except StoreUnavailable:
            self._token = None  # whatever was missed is read again when the store is back
            if not self._routes.tables:
                for rollout in self._last_good.rollouts():
                    self._adopt(rollout)

    def _catch_up(self) -> bool:
        token = self._store.change_token()
        if token == self._token and not any(p.is_due for p in self._problems.values()):
            return False
        self._token = token
        epochs = self._store.epochs()
        self._known = frozenset(epochs)
        behind = [name for name, epoch in epochs.items() if not self._is_settled(name, epoch)]
        for endpoint in behind:
            try:
                self._adopt(self._store.rollout(endpoint))
            except (CorruptStore, UnknownEndpoint) as error:
                self._set_back(endpoint, epochs[endpoint], str(error))
        return bool(behind)

    def _is_settled(self, endpoint: str, epoch: int) -> bool:
        """Whether this epoch is served, or was tried in vain a moment ago."""
        table = self._routes.tables.get(endpoint)
        if table is not None and table.rollout.epoch == epoch:
            return True
        problem = self._problems.get(endpoint)
        # Every report changes the store, so without this a bad file was loaded without end.
        return problem is not None and problem.epoch == epoch and not problem.is_due

    def _adopt(self, rollout: Rollout) -> None:
        endpoint, epoch = rollout.endpoint, rollout.epoch
        try:
            for version in rollout.serving():
                self._ensure_loaded(rollout.versions[version])
            self._routes.swap(Table(rollout, self._models))
            self._problems.pop(endpoint, None)
            self._show_epoch(endpoint, epoch)
            for version, served in self._routes.tables[endpoint].versions.items():
                self._show_provider(endpoint, version, served.model.provider)
            self._last_good.keep(rollout)
        except (AuditionError, MemoryError) as error:
            self._set_back(endpoint, epoch, str(error) or "out of memory")
        self._forget_unused()

    def _set_back(self, endpoint: str, epoch: int, why: str) -> None:
        reason = f"endpoint {endpoint}, epoch {epoch}: {why}"
        self._problems[endpoint] = _Problem(epoch, reason, time.monotonic())

    def _ensure_loaded(self, facts: VersionFacts) -> None:
        if facts.digest not in self._models:
            self._models[facts.digest] = self._load(facts)

    def _forget_unused(self) -> None:
        used = {
            served.digest
            for table in self._routes.tables.values()
            for served in table.versions.values()
        }
        self._models = {d: model for d, model in self._models.items() if d in used}

    def _report(self) -> None:
        self._reported_at = time.monotonic()
        tables: Mapping[str, Table] = self._routes.tables
        self._store.report_worker(
            WorkerReport(
                writer_id=self._writer_id,
                pid=self._pid,
                host=self._host,
                at_us=time.time_ns() // 1000,
                epochs={name: table.rollout.epoch for name, table in tables.items()},
                loaded={
                    name: sorted(served.digest for served in table.versions.values())
                    for name, table in tables.items()
                },
                problem="; ".join(self._complaints()),
                unrecorded_rows=self._unrecorded_rows(),
            )
        )

    def _complaints(self) -> Iterator[str]:
        yield from (problem.reason for problem in self._problems.values())
        for endpoint, table in self._routes.tables.items():
            for version, served in table.versions.items():
                provider = served.model.provider
                if provider != self._preferred_provider:
                    yield (
                        f"endpoint {endpoint}: version {version} runs on {provider}, not on "
                        f"{self._preferred_provider}"
                    )
