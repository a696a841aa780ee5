"""The shadow lane of one registration: tail the journals, run what is asked, write frames.

A lane is a thread of the Evaluator, so that a challenger that hangs holds up nobody but
itself. Rules: the sources of one journal are done in order; the last frame of a prediction
carries its offset, and what was written before a crash is therefore exactly what was done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.core.records import PredictionRecord
from gateway.core.routes import Rollout, VersionFacts
from gateway.errors import AuditionError
from gateway.journal.reader import Entry, JournalTail, writer_ids
from gateway.journal.writer import JournalWriter
from gateway.ports import Registration
from gateway.shadow.cursors import Cursor
from gateway.shadow.latencies import Pair, time_pair
from gateway.shadow.runner import Runner
from gateway.shadow.running import RunResult, expired, run_all
from gateway.shadow.tasks import Task, sampling_key, shadow_record, task_of

IDLE_WAIT_S = 0.05
_SLICE = 1024
_RETRY_AFTER_S = 1.0


class Lane(threading.Thread):
    """Runs until `stop`, or until it has read up to the ends given to `finish_at`."""

    def __init__(
        self,
        registration: Registration,
        *,
        sources: Path,
        journal: JournalWriter,
        rollout_at: Callable[[int], Rollout],
        make_runner: Callable[[VersionFacts], Runner],
        cursor: Cursor,
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
        self._done = dict(cursor)
        self._tails: dict[str, JournalTail] = {}
        self._runners: dict[str, Runner] = {}
        self._epochs: dict[int, Rollout] = {}
        self._finish_at: dict[str, int] | None = None
        self._expire_until: dict[str, int] = {}
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
                if not progressed:
                    self._stopping.wait(_RETRY_AFTER_S if self.problem else IDLE_WAIT_S)
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
        for writer_id in writer_ids(self._sources):
            try:
                progressed = self._follow(writer_id) or progressed
            except (AuditionError, OSError) as error:
                # No store, no room, no processes: what was not written is read again.
                self._tails.pop(writer_id, None)
                problem = f"the shadow of journal {writer_id} waits: {error}"
        self.problem = problem
        return progressed

    def _follow(self, writer_id: str) -> bool:
        tail = self._tails.get(writer_id)
        if tail is None:
            start = self._done.get(writer_id, 0)
            tail = self._tails[writer_id] = JournalTail(self._sources / writer_id, offset=start)
        before = tail.offset
        entries = tail.read()
        tasks = [task for entry in entries if (task := self._task(writer_id, entry)) is not None]
        for start in range(0, len(tasks), _SLICE):
            if self._stopping.is_set():
                return False  # the position must not pass what was not done
            self._run(tasks[start : start + _SLICE])
        self.positions[writer_id] = tail.offset
        return tail.offset != before

    def _task(self, writer_id: str, entry: Entry) -> Task | None:
        record, registration = entry.record, self.registration
        if not isinstance(record, PredictionRecord) or record.endpoint != registration.endpoint:
            return None
        closed = registration.closed_epoch
        if record.epoch < registration.opened_epoch or (
            closed is not None and record.epoch >= closed
        ):
            return None
        return task_of(
            record,
            writer_id=writer_id,
            end=entry.end,
            registration=registration,
            rollout=self._rollout(record.epoch),
        )

    def _rollout(self, epoch: int) -> Rollout:
        if epoch not in self._epochs:
            self._epochs[epoch] = self._rollout_at(epoch)
        return self._epochs[epoch]

    def _run(self, tasks: Sequence[Task]) -> None:
        results: dict[tuple[int, str], RunResult] = {}
        for version in sorted({version for task in tasks for version in task.versions}):
            wanted = [i for i, task in enumerate(tasks) if version in task.versions]
            found = self._results(version, [tasks[i] for i in wanted])
            results.update({(i, version): one for i, one in zip(wanted, found, strict=True)})
        for i, task in enumerate(tasks):
            self._write(task, {v: results[i, v] for v in task.versions}, self._time(task))

    def _results(self, version: str, tasks: Sequence[Task]) -> list[RunResult]:
        lost = [task for task in tasks if self._is_expired(task)]
        return [expired(task) for task in lost] + run_all(self._runner(version), tasks[len(lost) :])

    def _is_expired(self, task: Task) -> bool:
        return task.end <= self._expire_until.get(task.writer_id, 0)

    def _time(self, task: Task) -> Pair | None:
        if self._is_expired(task):
            return None
        return time_pair(
            task,
            key=sampling_key(self.registration.digest),
            champion=self.registration.champion,
            challenger=self.registration.version,
            runner_of=self._runner,
        )

    def _write(self, task: Task, results: dict[str, RunResult], alone: Pair | None) -> None:
        before = self._done.get(task.writer_id, 0)
        for version in task.versions:
            result = results[version]
            # Only the last frame moves the cursor: after a crash between the two the whole
            # prediction is run again, and readers see the doubled one once.
            end = task.end if version == task.versions[-1] else before
            record = shadow_record(
                task,
                registration=self.registration,
                version=version,
                digest=self._runner(version).facts.digest,
                source_end=end,
                status=result.status,
                error=result.error,
                started_at_us=result.started_at_us,
                latency_us=result.latency_us,
                batch_rows=result.batch_rows,
                outputs=result.outputs,
            )
            if alone is not None and version == task.versions[-1]:
                record.champion_alone_us, record.challenger_alone_us = alone
            self.journal.append(record)
        self._done[task.writer_id] = task.end

    def _runner(self, version: str) -> Runner:
        if version not in self._runners:
            facts = self._rollout(self.registration.opened_epoch).versions[version]
            self._runners[version] = self._make_runner(facts)
        return self._runners[version]
