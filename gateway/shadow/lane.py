"""The shadow lane of one registration: tail the journals, run what is asked, write frames.

A lane is a thread of the Evaluator, so that a challenger that hangs holds up nobody but
itself. Rules: the sources of one journal are done in order; the last frame of a prediction
carries its offset, and what was written before a crash is therefore exactly what was done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from gateway.core.records import PredictionRecord, ShadowRecord
from gateway.core.routes import Rollout, VersionFacts
from gateway.errors import AuditionError
from gateway.journal.reader import Entry
from gateway.journal.shared import SharedJournals
from gateway.journal.writer import JournalWriter
from gateway.ports import Registration
from gateway.shadow.cursors import Cursor
from gateway.shadow.frames import shadow_record
from gateway.shadow.gate import Gate
from gateway.shadow.latencies import Pair, time_pairs
from gateway.shadow.runner import Runner
from gateway.shadow.running import RunResult, expired, run_all
from gateway.shadow.tasks import Plan, Task, plan_of, sampling_key, task_of

GATHER_S = 0.05
_SLICE = 1024
#: So many predictions' frames are written at once, which costs one call of the system.
_TOGETHER = 128
_RETRY_AFTER_S = 1.0


class Lane(threading.Thread):
    """Runs until `stop`, or until it has read up to the ends given to `finish_at`."""

    def __init__(
        self,
        registration: Registration,
        *,
        sources: SharedJournals,
        journal: JournalWriter,
        rollout_at: Callable[[int], Rollout],
        make_runner: Callable[[VersionFacts], Runner],
        cursor: Cursor,
        gate: Gate,
    ) -> None:
        super().__init__(name=f"shadow-{registration.endpoint}-{registration.number}", daemon=True)
        self.registration = registration
        self.journal = journal
        #: How far each source journal is done, frames or not: what a report may rely on.
        self.positions: dict[str, int] = {}
        self.problem = ""
        self._sources = sources
        self._rollout_at = rollout_at
        self._make_runner = make_runner
        self._gate = gate
        self._done = dict(cursor)
        self._read: dict[str, int] = {}
        self._runners: dict[str, Runner] = {}
        self._plans: dict[int, Plan | None] = {}
        self._finish_at: dict[str, int] | None = None
        self._expire_until: dict[str, int] = {}
        self._is_behind = False
        self._stopping = threading.Event()

    def finish_at(self, ends: dict[str, int]) -> None:
        """The registration is closed: end when the journals are done up to `ends`."""
        self._finish_at = ends

    def expire_until(self, ends: dict[str, int]) -> None:
        """The journals are let go up to these ends: what was not run by then never will be."""
        self._expire_until = ends

    @property
    def is_finishing(self) -> bool:
        """Whether `finish_at` was called."""
        return self._finish_at is not None

    def stop(self) -> None:
        """End after the batch under way."""
        self._stopping.set()

    def has_reached(self, ends: dict[str, int]) -> bool:
        """Whether every journal is done up to its offset in `ends`."""
        positions = self.positions
        return all(positions.get(writer_id, 0) >= end for writer_id, end in ends.items())

    def run(self) -> None:
        """The thread."""
        try:
            while not self._stopping.is_set():
                progressed = self.step()
                if self._finish_at is not None and self.has_reached(self._finish_at):
                    return
                if not progressed and self.problem:
                    self._stopping.wait(_RETRY_AFTER_S)
                elif not self._is_behind:
                    # A few rows cost a batch as much as many do: let some come together.
                    self._stopping.wait(GATHER_S)
        except Exception as error:  # whatever it is, it is shown and the books stay open
            self.problem = f"the shadow lane stopped: {error!r}"
            raise
        finally:
            for runner in self._runners.values():
                runner.close()
            self.journal.close()

    def step(self) -> bool:
        """Do what can be done now in each journal; whether there was anything."""
        progressed, problem = False, ""
        self._is_behind = False
        for writer_id in self._sources.writer_ids():
            try:
                progressed = self._follow(writer_id) or progressed
            except (AuditionError, OSError) as error:
                # No store, no room, no processes: what was not written is read again.
                self._read.pop(writer_id, None)
                problem = f"the shadow of journal {writer_id} waits: {error}"
        self.problem = problem
        return progressed

    def _follow(self, writer_id: str) -> bool:
        start = self._read.get(writer_id, self._done.get(writer_id, 0))
        piece = self._sources.read(writer_id, start)
        tasks = [
            task for entry in piece.entries if (task := self._task(writer_id, entry)) is not None
        ]
        self._is_behind = self._is_behind or len(tasks) >= _SLICE
        for first in range(0, len(tasks), _SLICE):
            if not self._gate.wait(self._stopping):
                return False  # the position must not pass what was not done
            with self._gate.working(self._stopping):
                self._run(tasks[first : first + _SLICE])
        self._read[writer_id] = self.positions[writer_id] = piece.end
        return piece.end != start

    def _task(self, writer_id: str, entry: Entry) -> Task | None:
        record, registration = entry.record, self.registration
        if not isinstance(record, PredictionRecord) or record.endpoint != registration.endpoint:
            return None
        closed = registration.closed_epoch
        if record.epoch < registration.opened_epoch or (
            closed is not None and record.epoch >= closed
        ):
            return None
        plan = self._plan(record.epoch)
        if plan is None:
            return None
        return task_of(record, writer_id=writer_id, end=entry.end, plan=plan)

    def _plan(self, epoch: int) -> Plan | None:
        if epoch not in self._plans:
            self._plans[epoch] = plan_of(self.registration, self._rollout_at(epoch))
        return self._plans[epoch]

    def _run(self, tasks: Sequence[Task]) -> None:
        """Run tasks of one journal, and write their frames."""
        until = self._expire_until.get(tasks[0].writer_id, 0)
        lost = [task for task in tasks if task.end <= until]
        wanted = tasks[len(lost) :]
        results = {
            version: iter(
                [
                    *(expired(task) for task in lost if version in task.versions),
                    *run_all(self._runner(version), [t for t in wanted if version in t.versions]),
                ]
            )
            for version in sorted({version for task in tasks for version in task.versions})
        }
        pairs = self._time(wanted)
        alone = [*(None for _ in lost), *(pairs.get(i) for i in range(len(wanted)))]
        self._write(tasks, results, alone)

    def _time(self, tasks: Sequence[Task]) -> dict[int, Pair]:
        return time_pairs(
            tasks,
            key=sampling_key(self.registration.digest),
            champion=self.registration.champion,
            challenger=self.registration.version,
            runner_of=self._runner,
        )

    def _write(
        self,
        tasks: Sequence[Task],
        results: Mapping[str, Iterator[RunResult]],
        alone: Sequence[Pair | None],
    ) -> None:
        """Write the frames of some tasks at a time, and then count those as done."""
        writer_id = tasks[0].writer_id
        for first in range(0, len(tasks), _TOGETHER):
            some = tasks[first : first + _TOGETHER]
            before = self._done.get(writer_id, 0)
            frames: list[ShadowRecord] = []
            for task, pair in zip(some, alone[first : first + _TOGETHER], strict=True):
                frames += self._frames(task, results, before=before, alone=pair)
                before = task.end
            self.journal.append_all(frames)
            self._done[writer_id] = before

    def _frames(
        self,
        task: Task,
        results: Mapping[str, Iterator[RunResult]],
        *,
        before: int,
        alone: Pair | None,
    ) -> Iterator[ShadowRecord]:
        for version in task.versions:
            is_last = version == task.versions[-1]
            yield shadow_record(
                task,
                next(results[version]),
                registration=self.registration,
                version=version,
                digest=self._runner(version).facts.digest,
                # Only the last frame moves the cursor: after a crash between the two the whole
                # prediction is run again, and readers see the doubled one once.
                source_end=task.end if is_last else before,
                alone=alone if is_last else None,
            )

    def _runner(self, version: str) -> Runner:
        if version not in self._runners:
            facts = self._rollout_at(self.registration.opened_epoch).versions[version]
            self._runners[version] = self._make_runner(facts)
        return self._runners[version]
