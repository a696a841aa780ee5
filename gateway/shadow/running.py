"""Running a batch of predictions on one version, down to the row that is to blame.

Rules: a batch that fails is run again one by one before anything is called failed; a child
that dies or goes silent is replaced, and after three attempts alone a prediction gets what
its model made of it. Nothing here raises: every task comes back with a result.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from gateway.core.records import ShadowStatus, TensorRecord
from gateway.runtimes.messages import BatchDone, BatchFailed
from gateway.shadow.batches import join, kind_of, split
from gateway.shadow.runner import Runner, Silence
from gateway.shadow.tasks import Task

MAX_BATCH_ROWS = 512
_ATTEMPTS_ALONE = 3


class RunResult(msgspec.Struct, gc=False):
    """What became of one prediction on one version."""

    status: ShadowStatus
    error: str
    started_at_us: int
    latency_us: int
    batch_rows: int
    outputs: list[TensorRecord]


def run_all(runner: Runner, tasks: Sequence[Task]) -> list[RunResult]:
    """One result a task, in order. Raises OSError when no process can be started."""
    results: list[RunResult] = []
    for batch in _batches(runner, tasks):
        results += _run_batch(runner, batch)
    return results


def expired(task: Task) -> RunResult:
    """The result of a prediction whose journal is let go before its shadow ran."""
    error = "the journal was let go before this shadow ran; it lags, or retention is too short"
    return _without_answer("expired", error, task)


def _batches(runner: Runner, tasks: Sequence[Task]) -> list[list[Task]]:
    """Runs of neighbours that can be joined; order is kept."""
    batches: list[list[Task]] = []
    kind, rows = None, 0
    for task in tasks:
        found = kind_of(inputs_of(runner, task)) if runner.facts.batches else None
        rows += task.prediction.rows
        if found is None or found != kind or rows > MAX_BATCH_ROWS:
            batches.append([])
            kind, rows = found, task.prediction.rows
        batches[-1].append(task)
    return batches


def _run_batch(runner: Runner, batch: list[Task]) -> list[RunResult]:
    if len(batch) > 1:
        done = _try_together(runner, batch)
        if done is not None:
            return done
    return [_run_alone(runner, task) for task in batch]


def _try_together(runner: Runner, batch: list[Task]) -> list[RunResult] | None:
    inputs = [inputs_of(runner, task) for task in batch]
    if any(len(one) < len(runner.facts.signature.inputs) for one in inputs):
        return None
    rows = [task.prediction.rows for task in batch]
    started_at_us = time.time_ns() // 1000
    reply = runner.run(join(inputs))
    if not isinstance(reply, BatchDone):
        return None
    try:
        outputs = split(reply.outputs, rows)
    except ValueError:
        return None
    return [
        RunResult("ok", "", started_at_us, reply.latency_us, sum(rows), mine) for mine in outputs
    ]


def _run_alone(runner: Runner, task: Task) -> RunResult:
    inputs = inputs_of(runner, task)
    missing = {spec.name for spec in runner.facts.signature.inputs} - {t.name for t in inputs}
    if missing:
        names = ", ".join(sorted(missing))
        return _without_answer("refused", f"the request does not carry {names}", task)
    error = ""
    for _ in range(_ATTEMPTS_ALONE):
        started_at_us = time.time_ns() // 1000
        reply = runner.run(inputs)
        if not isinstance(reply, Silence):
            return _result(reply, started_at_us, task)
        error = reply.error
        if reply.cpu_spent:
            break
    return _without_answer("timed_out", error, task)


def _result(reply: BatchDone | BatchFailed, started_at_us: int, task: Task) -> RunResult:
    rows = task.prediction.rows
    if isinstance(reply, BatchDone):
        return RunResult("ok", "", started_at_us, reply.latency_us, rows, reply.outputs)
    status: ShadowStatus = "nonfinite" if reply.status == "nonfinite" else "failed"
    return RunResult(status, reply.error, started_at_us, 0, rows, [])


def _without_answer(status: ShadowStatus, error: str, task: Task) -> RunResult:
    return RunResult(status, error, time.time_ns() // 1000, 0, task.prediction.rows, [])


def inputs_of(runner: Runner, task: Task) -> list[TensorRecord]:
    """What the version reads of the request, in the order of its signature."""
    sent = {tensor.name: tensor for tensor in task.prediction.inputs}
    return [sent[s.name] for s in runner.facts.signature.inputs if s.name in sent]
