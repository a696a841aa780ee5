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
from gateway.shadow.batches import Kind, join, kind_of, split
from gateway.shadow.runner import Runner, Silence
from gateway.shadow.tasks import Task

MAX_BATCH_ROWS = 512
#: Of inputs; a batch of images must not take the memory of a thousand of them.
MAX_BATCH_BYTES = 32 << 20
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


class _Batch(msgspec.Struct, gc=False):
    """Tasks that are run together, and of each what the version reads."""

    tasks: list[Task]
    inputs: list[list[TensorRecord]]
    rows: int
    size_bytes: int

    def admits(self, rows: int, size_bytes: int) -> bool:
        return (
            self.rows + rows <= MAX_BATCH_ROWS and self.size_bytes + size_bytes <= MAX_BATCH_BYTES
        )

    def add(self, task: Task, inputs: list[TensorRecord], size_bytes: int) -> None:
        self.tasks.append(task)
        self.inputs.append(inputs)
        self.rows += task.prediction.rows
        self.size_bytes += size_bytes


def _batches(runner: Runner, tasks: Sequence[Task]) -> list[_Batch]:
    """Runs of neighbours that can be joined; order is kept."""
    batches: list[_Batch] = []
    names = [spec.name for spec in runner.facts.signature.inputs]
    kind: Kind | None = None
    for task in tasks:
        inputs = _chosen(task, names)
        size_bytes = sum([len(tensor.data) for tensor in inputs])
        found = kind_of(inputs) if runner.facts.batches and len(inputs) == len(names) else None
        fits = found is not None and found == kind
        if not fits or not batches[-1].admits(task.prediction.rows, size_bytes):
            batches.append(_Batch([], [], 0, 0))
        batches[-1].add(task, inputs, size_bytes)
        kind = found
    return batches


def _run_batch(runner: Runner, batch: _Batch) -> list[RunResult]:
    if len(batch.tasks) > 1:
        done = _try_together(runner, batch)
        if done is not None:
            return done
    return [
        _run_alone(runner, task, inputs)
        for task, inputs in zip(batch.tasks, batch.inputs, strict=True)
    ]


def _try_together(runner: Runner, batch: _Batch) -> list[RunResult] | None:
    started_at_us = time.time_ns() // 1000
    reply = runner.run(join(batch.inputs))
    if not isinstance(reply, BatchDone):
        return None
    try:
        outputs = split(reply.outputs, [task.prediction.rows for task in batch.tasks])
    except ValueError:
        return None
    return [
        RunResult("ok", "", started_at_us, reply.latency_us, batch.rows, mine) for mine in outputs
    ]


def _run_alone(runner: Runner, task: Task, inputs: list[TensorRecord]) -> RunResult:
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
    return _chosen(task, [spec.name for spec in runner.facts.signature.inputs])


def _chosen(task: Task, names: list[str]) -> list[TensorRecord]:
    sent = task.prediction.inputs
    if len(sent) == 1 == len(names):  # most models
        return sent if sent[0].name == names[0] else []
    by_name = {tensor.name: tensor for tensor in sent}
    return [by_name[name] for name in names if name in by_name]
