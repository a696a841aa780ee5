"""The Evaluator's process: its lock, its priority, and its loop put together."""

from __future__ import annotations

import gc
import os
import secrets
import sys
import threading
import traceback
from functools import partial

from gateway.archive.intake import Intake
from gateway.archive.place import objects_at
from gateway.archive.upkeep import ArchiveUpkeep
from gateway.archive.writer import ArchiveWriter
from gateway.bootstrap.clocks import EndpointClock
from gateway.bootstrap.control import known_store
from gateway.bootstrap.identity import new_writer_id, now_us
from gateway.bootstrap.mapped_repository import MappedRepository
from gateway.core.blocks import Schedule
from gateway.core.routes import VersionFacts
from gateway.evaluator import Evaluator, lock_state
from gateway.journal.reader import live_writers
from gateway.journal.shared import SharedJournals
from gateway.journal.writer import JournalWriter
from gateway.judge.archive_judge import ArchiveJudge
from gateway.judge.controller import act
from gateway.judge.operations import Operations
from gateway.ports import ControlStore, Registration
from gateway.runtimes.repository import ModelRepository
from gateway.settings import Settings
from gateway.shadow.cursors import Cursor, Cursors
from gateway.shadow.gate import Gate
from gateway.shadow.lane import Lane
from gateway.shadow.meter import TaxMeter
from gateway.shadow.runner import Runner
from gateway.telemetry.otel import SpanSink, span_sink
from gateway.upkeep import Upkeep

_RUNNER_COMMAND = (sys.executable, "-m", "gateway.runtimes.runner")


class EvaluatorHost:
    """Runs the Evaluator in a thread of its own process, whose priority the runners inherit."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evaluator", daemon=True)

    def start(self) -> None:
        """Step back behind everything else, unless told not to, and begin."""
        if self._settings.evaluator_priority == "idle":
            os.setpriority(os.PRIO_PROCESS, 0, 19)
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        self._thread.start()

    def stop(self) -> None:
        """End after the work under way."""
        self._stopping.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            self._evaluate()
        except BaseException:
            # A process whose only thread of work is dead must not look alive: the host
            # starts another one.
            traceback.print_exc()
            os._exit(1)

    def _evaluate(self) -> None:
        state = self._settings.state
        if lock_state(state / "evaluator.lock", stopping=self._stopping) is None:
            return
        store = known_store(self._settings)
        spans = span_sink()
        evaluator = build_evaluator(self._settings, store, spans=spans, stopping=self._stopping)
        calm_garbage_collection()
        evaluator.run()
        if spans is not None:
            spans.close()


def calm_garbage_collection() -> None:
    """Records make no cycles, and looking for some took two fifths of this process's CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def make_runner(settings: Settings, facts: VersionFacts) -> Runner:
    """The process that a version's answers are discarded from, under the limits of a shadow."""
    return Runner(
        facts,
        command=_RUNNER_COMMAND,
        root=str(settings.models),
        memory_bytes=settings.shadow_memory_bytes,
        cpu_limit_s=settings.shadow_time_limit_s,
        providers=settings.provider_names,
    )


def build_evaluator(
    settings: Settings,
    store: ControlStore,
    *,
    spans: SpanSink | None,
    stopping: threading.Event,
) -> Evaluator:
    """The Evaluator over one state folder."""
    state = settings.state
    cursors = Cursors(state / "shadow")
    objects = objects_at(state / "archive", settings.archive)
    archive = ArchiveWriter(state / "archive", objects=objects)
    judge = ArchiveJudge(state / "archive", store, objects=objects)
    journals = SharedJournals(state / "journal")
    gate = Gate(_schedule(settings), clock_us=now_us)
    meter = TaxMeter(gate, budget_ms=settings.shadow_tax_budget_ms, now_us=now_us())

    def make_lane(registration: Registration, cursor: Cursor) -> Lane:
        return Lane(
            registration,
            sources=journals,
            journal=JournalWriter(state / "shadow", writer_id=new_writer_id()),
            rollout_at=lambda epoch: store.rollout(registration.endpoint, epoch=epoch),
            make_runner=partial(make_runner, settings),
            cursor=cursor,
            gate=gate,
        )

    return Evaluator(
        state=state,
        store=store,
        intake=Intake(
            (state / "journal", state / "shadow"),
            archive,
            sinks=(cursors.note, meter) if spans is None else (cursors.note, meter, spans),
            flush_every_s=settings.flush_every_s,
        ),
        cursors=cursors,
        make_lane=make_lane,
        meter=meter,
        judge=judge,
        act=partial(act, _operations(settings, store)),
        clock_us=EndpointClock(state / "clock", judge.observed_until_us).now_us,
        upkeep=_upkeep(settings, archive, cursors),
        stopping=stopping,
    )


def _schedule(settings: Settings) -> Schedule | None:
    # Nobody can know beforehand when the shadow will be off, so nothing can keep step with it.
    return Schedule(seed=secrets.randbits(63)) if settings.shadow_tax_meter else None


def _upkeep(settings: Settings, archive: ArchiveWriter, cursors: Cursors) -> Upkeep:
    archive_age_s = settings.retention_archive_age
    keep_us = None if archive_age_s is None else archive_age_s * 1_000_000
    return Upkeep(
        settings.state,
        archive=ArchiveUpkeep(archive, keep_us=keep_us),
        cursors=cursors,
        journal_keep_us=settings.retention_journal_age * 1_000_000,
        journal_keep_bytes=settings.retention_journal_bytes,
    )


def _operations(settings: Settings, store: ControlStore) -> Operations:
    return Operations(
        store,
        clock_us=now_us,
        live_workers=lambda: live_writers(settings.state / "journal"),
        repository=MappedRepository(ModelRepository(settings.models)),
    )
