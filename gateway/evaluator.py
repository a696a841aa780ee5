"""The Evaluator: the one process that reads all journals and acts on what it reads.

It archives every record, keeps a shadow lane for each registration, asks the judge, and
reports how far it has come. Rules: it can be killed at any moment and goes on where the
archive's manifest and the shadow frames say; nothing that a client waits for waits for it;
what is wrong with one registration or one journal holds up no other.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from gateway.archive.intake import Intake
from gateway.core.routes import Rollout
from gateway.errors import StoreUnavailable
from gateway.journal.reader import end_offsets
from gateway.judge.archive_judge import ArchiveJudge
from gateway.looks import Looks
from gateway.ports import Checkpoint, ControlStore, EvaluatorReport, Registration
from gateway.shadow.cursors import Cursor, Cursors
from gateway.shadow.lane import Lane
from gateway.shadow.meter import TaxMeter
from gateway.telemetry.prometheus import show_tax
from gateway.upkeep import Upkeep

_Key = tuple[str, int]
_Ends = dict[str, int]
_IDLE_S = 0.05
#: Between two rounds, so that each finds some records to read and not the next one or two.
_GATHER_S = 0.02
_STORE_EVERY_S = 0.2
_REPORT_EVERY_S = 0.25
_JUDGE_EVERY_S = 0.5
_BOOKS_EVERY_S = 5.0
#: How long after its last possible answer a worker may still be writing a record.
_CLOSING_S = 3.0


class Evaluator:
    """Runs until `stopping` is set; `run` is the body of one thread."""

    def __init__(
        self,
        *,
        state: Path,
        store: ControlStore,
        intake: Intake,
        cursors: Cursors,
        make_lane: Callable[[Registration, Cursor], Lane],
        meter: TaxMeter,
        judge: ArchiveJudge,
        act: Callable[[Rollout, Registration, Checkpoint], str],
        clock_us: Callable[[Rollout], int],
        upkeep: Upkeep,
        stopping: threading.Event,
    ) -> None:
        self._journals = state / "journal"
        self._shadows = state / "shadow"
        self._store = store
        self._intake = intake
        self._cursors = cursors
        self._make_lane = make_lane
        self._meter = meter
        self._judge = judge
        self._clock_us = clock_us
        self._looks = Looks(
            state, store=store, intake=intake, judge=judge, act=act, clock_us=clock_us
        )
        self._upkeep = upkeep
        self._stopping = stopping
        self._lanes: dict[_Key, Lane] = {}
        self._known: set[str] = set()
        self._rollouts: dict[str, Rollout] = {}
        self._registrations: dict[_Key, Registration] = {}
        self._last: dict[str, float] = {}
        self._balanced_at = -1
        self._is_balancing = False
        self._closed_at: dict[_Key, float] = {}
        self._problems: dict[str, str] = {}

    def run(self) -> None:
        """Follow the journals until the end."""
        self._cursors.catch_up()
        while not self._stopping.is_set():
            try:
                busy = self.step()
                self._problems.pop("evaluator", None)
            except (StoreUnavailable, OSError) as error:
                # Promotions are frozen while the store is away; everything else waits too.
                self._problems["evaluator"], busy = str(error), False
            self._stopping.wait(_GATHER_S if busy else _IDLE_S)
        for lane in self._lanes.values():
            lane.stop()
        for lane in self._lanes.values():
            lane.join()

    def step(self) -> bool:
        """One round; whether there was anything to read."""
        if self._is_due("store", _STORE_EVERY_S):
            self._read_store()
            self._tend_lanes()
            with self._isolated("retention"):
                self._upkeep.tend_journals(self._lanes.values(), self._intake.archived)
                self._upkeep.tend_reports(self._store)
        read = self._intake.read()
        flushed = self._intake.flush(idle=not read)
        if flushed:
            self._cursors.save(self._intake.archived)
        if self._is_due("judge", _JUDGE_EVERY_S) or (flushed and not read):
            self._judge_all()
        is_stale = self._intake.sequence != self._balanced_at
        if self._is_balancing or (is_stale and self._is_due("books", _BOOKS_EVERY_S)):
            with self._isolated("books"):
                self._balance()
        with self._isolated("upkeep"):
            self._upkeep.tend_archive(self._registrations.values(), is_idle=not read)
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
        rollouts: dict[str, Rollout] = {}
        registrations: dict[_Key, Registration] = {}
        listed = self._store.endpoints()
        self._known.update(listed)
        for name in self._known.difference(listed):
            self._problems[f"endpoint {name}"] = f"endpoint {name}: it left the control store"
        for name in listed:
            with self._isolated(f"endpoint {name}"):
                rollout, opened = self._store.rollout(name), self._store.registrations(name)
                rollouts[name] = rollout
                registrations |= {(name, one.number): one for one in opened}
        self._rollouts, self._registrations = rollouts, registrations

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
        # Workers may still be running under the epoch before; only then are the ends final.
        limit_s = self._rollouts[key[0]].rules.time_limit_ms / 1000
        if time.monotonic() - closed_at >= limit_s + _CLOSING_S and not lane.is_finishing:
            lane.finish_at(end_offsets(self._journals))
        if not lane.is_alive() and not lane.problem:
            self._cursors.finish(*key)
            del self._lanes[key]

    # -- verdicts ---------------------------------------------------------------------------

    def _judge_all(self) -> None:
        for key, registration in self._registrations.items():
            if registration.closed_epoch is None and key in self._lanes:
                with self._isolated(f"judge of {registration.endpoint}/{registration.version}"):
                    self._judge_one(key, registration)

    @contextmanager
    def _isolated(self, name: str) -> Iterator[None]:
        """Show what goes wrong inside, and go on: no verdict is WAIT, for this one only."""
        try:
            yield
        except StoreUnavailable:
            raise
        except Exception as error:  # whatever it is
            self._problems[name] = f"{name}: {error!r}"
        else:
            self._problems.pop(name, None)

    def _judge_one(self, key: _Key, registration: Registration) -> None:
        rollout = self._rollouts[registration.endpoint]
        told = self._looks.take(registration, rollout, self._lanes[key])
        if told is not None:
            self._problems[f"verdict on {registration.endpoint}/{registration.version}"] = told

    def _balance(self) -> None:
        """Take what was archived since into the books, a bounded piece at a time."""
        self._is_balancing, sequence = False, self._intake.sequence
        opened = [one for one in self._registrations.values() if one.closed_epoch is None]
        self._is_balancing = self._judge.keep_books(opened, self._rollouts)
        self._balanced_at = sequence

    # -- what operators are told --------------------------------------------------------------

    def _report(self) -> None:
        at_us = time.time_ns() // 1000
        self._meter.step(at_us)
        for name in self._rollouts:
            show_tax(name, self._meter.taxes.get(name), duty=self._meter.duty)
        problems = (
            *self._problems.values(), *self._intake.problems.values(), self._upkeep.problem
        )  # fmt: skip
        ends = end_offsets(self._journals)
        archived = self._intake.archived
        body: dict[str, Any] = {
            "sources": {
                name: {"size": end, "archived": archived.get(name, 0)} for name, end in ends.items()
            },
            "endpoints": {name: self._endpoint_report(name, ends) for name in self._rollouts},
            "damages": [
                {"writer_id": d.writer_id, "start": d.start, "end": d.end}
                for d in self._intake.damages
            ],
            "problem": "; ".join(filter(None, problems)),
        }
        self._store.report_evaluator(
            EvaluatorReport(
                at_us=at_us, pid=os.getpid(), body=msgspec.Raw(msgspec.json.encode(body))
            )
        )

    def _endpoint_report(self, endpoint: str, ends: _Ends) -> dict[str, Any]:
        clock_us = self._clock_us(self._rollouts[endpoint])
        challengers = {
            lane.registration.version: self._lane_report(key, lane, ends)
            for key, lane in self._lanes.items()
            if key[0] == endpoint and lane.registration.closed_epoch is None
        }
        return {
            "clock_us": clock_us,
            "caught_up": self._intake.has_archived(ends)
            and all(one["caught_up"] for one in challengers.values()),
            "challengers": challengers,
            "shadow_tax": self._meter.report_of(endpoint),
            "labels": msgspec.to_builtins(self._judge.accounts.labels.get(endpoint)),
        }

    def _lane_report(self, key: _Key, lane: Lane, ends: _Ends) -> dict[str, Any]:
        judged = self._looks.last(lane.registration)
        behind = sum(max(0, end - lane.positions.get(name, 0)) for name, end in ends.items())
        return {
            "registration": lane.registration.number,
            "behind_bytes": behind,
            "judged_cut_us": None if judged is None else judged.cut_us,
            "caught_up": judged is not None and judged.ends == ends,
            "problem": lane.problem,
            "books": msgspec.to_builtins(self._judge.accounts.books.get(key)),
            "label_free": msgspec.to_builtins(self._judge.accounts.label_free.get(key)),
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
