"""The Evaluator: the one process that reads all journals and acts on what it reads.

It archives every record, keeps a shadow lane for each registration, asks the judge, and
reports how far it has come. Rules: it can be killed at any moment and goes on where the
archive's manifest and the shadow frames say; nothing that a client waits for waits for it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from gateway.archive.writer import ArchiveWriter
from gateway.core.records import Record, ShadowRecord
from gateway.core.routes import Rollout
from gateway.errors import StoreUnavailable
from gateway.journal.reader import JournalTail, end_offset, is_sealed, writer_ids
from gateway.judge.archive_judge import ArchiveJudge, as_json
from gateway.ports import Checkpoint, ControlStore, EvaluatorReport, Registration
from gateway.shadow.cursors import Cursor, Cursors
from gateway.shadow.lane import Lane

_Key = tuple[str, int]
_IDLE_S = 0.02
_STORE_EVERY_S = 0.2
_REPORT_EVERY_S = 0.25
_JUDGE_EVERY_S = 0.5
_QUIET_FLUSH_S = 0.1
_FLUSH_RECORDS = 20_000
_CLOSING_S = 3.0
_BOOKS_EVERY_S = 5.0


class _Pass(msgspec.Struct):
    """A look of the judge that waits until everything up to `ends` has been read."""

    cut_us: int
    ends: dict[str, int]


class Evaluator:
    """Runs until `stop`; `run` is the body of one thread."""

    def __init__(
        self,
        *,
        state: Path,
        store: ControlStore,
        archive: ArchiveWriter,
        cursors: Cursors,
        make_lane: Callable[[Registration, Cursor], Lane],
        judge: ArchiveJudge,
        act: Callable[[Rollout, Registration, Checkpoint], str],
        clock_us: Callable[[Rollout], int],
        sinks: Iterable[Callable[[Record], None]] = (),
        flush_every_s: float = 1.0,
    ) -> None:
        self._journals = state / "journal"
        self._shadows = state / "shadow"
        self._store = store
        self._archive = archive
        self._cursors = cursors
        self._make_lane = make_lane
        self._judge = judge
        self._act = act
        self._clock_us = clock_us
        self._sinks = tuple(sinks)
        self._flush_every_s = flush_every_s
        self._tails: dict[Path, JournalTail] = {}
        self._finished: set[Path] = set()
        self._lanes: dict[_Key, Lane] = {}
        self._rollouts: dict[str, Rollout] = {}
        self._registrations: dict[_Key, Registration] = {}
        self._passes: dict[_Key, _Pass] = {}
        self._judged: dict[_Key, _Pass] = {}
        self._last: dict[str, float] = {}
        self._books: dict[_Key, dict[str, Any]] = {}
        self._label_free: dict[_Key, dict[str, Any]] = {}
        self._label_books: dict[str, dict[str, Any]] = {}
        self._balanced_at = -1
        self._closed_at: dict[_Key, float] = {}
        self._stopping = threading.Event()
        self.problem = ""

    def run(self) -> None:
        """Follow the journals until `stop`."""
        self._cursors.catch_up()
        while not self._stopping.is_set():
            try:
                busy = self.step()
            except StoreUnavailable as error:
                # Promotions are frozen while the store is away; everything else waits too.
                self.problem, busy = str(error), False
            if not busy:
                self._stopping.wait(_IDLE_S)
        for lane in self._lanes.values():
            lane.stop()
        for lane in self._lanes.values():
            lane.join()

    def stop(self) -> None:
        """End after the step under way."""
        self._stopping.set()

    def step(self) -> bool:
        """One round; whether there was anything to read."""
        if self._is_due("store", _STORE_EVERY_S):
            self._read_store()
            self._tend_lanes()
        read = self._read_journals()
        self._flush(idle=not read)
        if self._is_due("judge", _JUDGE_EVERY_S) or not read:
            self._judge_all()
        stale = not read and self._archive.sequence != self._balanced_at
        if stale and self._is_due("books", _BOOKS_EVERY_S):
            self._balance()
        if self._is_due("report", _REPORT_EVERY_S):
            self._report()
        return read

    def _is_due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now - self._last.get(what, 0.0) < every_s:
            return False
        self._last[what] = now
        return True

    # -- what there is to do --------------------------------------------------------------

    def _read_store(self) -> None:
        self._rollouts = {name: self._store.rollout(name) for name in self._store.endpoints()}
        self._registrations = {
            (name, one.number): one
            for name in self._rollouts
            for one in self._store.registrations(name)
        }

    def _tend_lanes(self) -> None:
        for key, registration in self._registrations.items():
            lane = self._lanes.get(key)
            if lane is None and not self._cursors.is_finished(*key):
                lane = self._make_lane(registration, self._cursors.of(*key))
                self._lanes[key] = lane
                lane.start()
            if lane is not None and registration.closed_epoch is not None:
                self._wind_up(key, lane, registration)

    def _wind_up(self, key: _Key, lane: Lane, registration: Registration) -> None:
        lane.registration = registration
        closed_at = self._closed_at.setdefault(key, time.monotonic())
        # Workers may still be writing under the epoch before; only then are the ends final.
        if time.monotonic() - closed_at >= _CLOSING_S and not lane.is_finishing:
            lane.finish_at(self._ends())
        if not lane.is_alive() and not lane.problem:
            self._cursors.finish(*key)
            del self._lanes[key]

    def _ends(self) -> dict[str, int]:
        return {name: end_offset(self._journals / name) for name in writer_ids(self._journals)}

    # -- journals into the archive ----------------------------------------------------------

    def _read_journals(self) -> bool:
        read = False
        for root in (self._journals, self._shadows):
            for name in writer_ids(root):
                folder = root / name
                if folder not in self._finished:
                    read = self._read_one(folder) or read
        return read

    def _read_one(self, folder: Path) -> bool:
        tail = self._tails.get(folder)
        if tail is None:
            start = self._archive.covered.get(folder.name, 0)
            tail = self._tails[folder] = JournalTail(folder, offset=start)
        before = tail.offset
        sealed = is_sealed(folder)
        for entry in tail.read():
            self._archive.append(folder.name, entry.end, entry.record)
            if isinstance(entry.record, ShadowRecord):
                self._cursors.note(entry.record)
            for sink in self._sinks:
                sink(entry.record)
        if sealed and tail.offset >= end_offset(folder):
            self._finished.add(folder)
        return tail.offset != before

    def _flush(self, *, idle: bool) -> None:
        pending = self._archive.pending
        age = time.monotonic() - self._last.get("flush", 0.0)
        due = age >= self._flush_every_s or (idle and age >= _QUIET_FLUSH_S)
        if pending and (due or pending >= _FLUSH_RECORDS):
            self._archive.flush()
            self._last["flush"] = time.monotonic()
            self._cursors.save(
                {f.name: t.offset for f, t in self._tails.items() if f.parent == self._shadows}
            )

    def _archived(self) -> dict[str, int]:
        """How far each journal has been read into the archive, as of the last flush."""
        if self._archive.pending:
            return self._archive.covered
        return {folder.name: tail.offset for folder, tail in self._tails.items()}

    # -- verdicts ---------------------------------------------------------------------------

    def _judge_all(self) -> None:
        for key, registration in self._registrations.items():
            if registration.closed_epoch is None and key in self._lanes:
                self._judge_one(key, registration)

    def _judge_one(self, key: _Key, registration: Registration) -> None:
        waiting = self._passes.get(key)
        if waiting is None:
            waiting = self._next_pass(key, registration)
            if waiting is None:
                return
            self._passes[key] = waiting
        if not self._has_read(waiting.ends, self._lanes[key]):
            return
        checkpoint = self._judge.judge(registration, waiting.cut_us, waiting.ends)
        if checkpoint is not None:
            self._store.add_checkpoint(checkpoint)
            rollout = self._rollouts[registration.endpoint]
            self.problem = self._act(rollout, registration, checkpoint) or self.problem
        self._judged[key] = self._passes.pop(key)

    def _next_pass(self, key: _Key, registration: Registration) -> _Pass | None:
        # The clock first, the ends after it: every row whose horizon the clock has passed
        # then lies before the ends.
        cut_us = self._clock_us(self._rollouts[registration.endpoint])
        ends = self._ends()
        before = self._judged.get(key)
        if before is not None and before.cut_us == cut_us and before.ends == ends:
            return None
        return _Pass(cut_us, ends)

    def _has_read(self, ends: dict[str, int], lane: Lane) -> bool:
        if not lane.has_reached(ends):
            return False
        needed = {**ends, lane.journal.writer_id: lane.journal.offset}
        archived = self._archived()
        return all(archived.get(name, 0) >= end for name, end in needed.items())

    def _balance(self) -> None:
        """Draw up the books while there is nothing else to do: they read the whole archive."""
        self._balanced_at = self._archive.sequence
        for key, registration in self._registrations.items():
            if registration.closed_epoch is None:
                self._books[key] = as_json(self._judge.books(registration))
                self._label_free[key] = as_json(self._judge.label_free(registration))
        for endpoint, rollout in self._rollouts.items():
            self._label_books[endpoint] = as_json(self._judge.label_books(endpoint, rollout))

    # -- what operators are told --------------------------------------------------------------

    def _report(self) -> None:
        at_us = time.time_ns() // 1000
        ends = self._ends()
        archived = self._archived()
        body: dict[str, Any] = {
            "sources": {
                name: {"size": end, "archived": archived.get(name, 0)} for name, end in ends.items()
            },
            "endpoints": {name: self._endpoint_report(name, ends) for name in self._rollouts},
            "damages": [
                {"writer_id": d.writer_id, "start": d.start, "end": d.end}
                for tail in self._tails.values()
                for d in tail.damages
            ],
            "problem": self.problem,
        }
        self._store.report_evaluator(
            EvaluatorReport(
                at_us=at_us, pid=os.getpid(), body=msgspec.Raw(msgspec.json.encode(body))
            )
        )
        self.problem = ""

    def _endpoint_report(self, endpoint: str, ends: dict[str, int]) -> dict[str, Any]:
        clock_us = self._clock_us(self._rollouts[endpoint])
        challengers = {
            lane.registration.version: self._lane_report(key, lane, ends)
            for key, lane in self._lanes.items()
            if key[0] == endpoint and lane.registration.closed_epoch is None
        }
        archived = self._archived()
        return {
            "clock_us": clock_us,
            "caught_up": all(archived.get(name, 0) >= end for name, end in ends.items())
            and all(one["caught_up"] for one in challengers.values()),
            "challengers": challengers,
            "labels": self._label_books.get(endpoint),
        }

    def _lane_report(self, key: _Key, lane: Lane, ends: dict[str, int]) -> dict[str, Any]:
        judged = self._judged.get(key)
        behind = sum(max(0, end - lane.positions.get(name, 0)) for name, end in ends.items())
        return {
            "registration": lane.registration.number,
            "behind_bytes": behind,
            "judged_cut_us": None if judged is None else judged.cut_us,
            "caught_up": judged is not None and judged.ends == ends,
            "problem": lane.problem,
            "books": self._books.get(key),
            "label_free": self._label_free.get(key),
        }


def lock_state(path: Path, *, stopping: threading.Event) -> int | None:
    """Hold the file's lock until this process ends; waits for a former holder to be gone."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while not stopping.is_set():
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stopping.wait(0.1)
        else:
            return descriptor
    os.close(descriptor)
    return None
