"""Several requests as one run: their rows one below the other, and the answers taken apart.

Rules: only inputs that agree in name, type and every dimension but the first are joined, and
only for a model whose rows were seen not to touch each other. A joined run that fails says
nothing of any one request in it; whoever asked for it runs each alone.
"""

from __future__ import annotations

import time
from asyncio import Future, TimerHandle
from collections.abc import Sequence

import msgspec
import numpy as np
from onnxruntime import RunOptions

from gateway.core.routes import EndpointRules
from gateway.errors import ModelFailed
from gateway.runtimes.onnx import Arrays, OnnxModel
from gateway.serving.routes import ServedVersion

#: Type and dimensions behind the first, of each input that the model reads.
Kind = tuple[tuple[str, tuple[int, ...]], ...]


class Timed(msgspec.Struct, gc=False):
    """The outputs of a request, how long its run took and how long it had waited before.

    A joined run took as long for each request in it: that is what each of them waited for.
    """

    outputs: Arrays
    run_us: int
    queue_us: int


class Waiting:
    """One request that waits for its run, or has it now; `kind` None: it runs alone."""

    __slots__ = (
        "arrays", "asked_ns", "endpoint", "ends_at_s", "future", "kind", "rows", "rules", "run",
        "served", "timer",
    )  # fmt: skip

    def __init__(
        self,
        served: ServedVersion,
        arrays: Arrays,
        *,
        rows: int,
        endpoint: str,
        rules: EndpointRules,
        asked_ns: int,
        future: Future[Timed],
    ) -> None:
        self.served, self.arrays, self.rows = served, arrays, rows
        self.endpoint, self.rules = endpoint, rules
        self.asked_ns = asked_ns
        self.future = future
        self.timer: TimerHandle | None = None
        self.ends_at_s = 0.0  # by the clock of the event loop
        self.run: Run | None = None
        is_alone = rules.max_batch_rows <= rows or not served.model.gains_from_joining(rows)
        self.kind: Kind | None = None if is_alone else kind_of(served.model, arrays, rows)


class Run:
    """One run of a model for one request or several; `began_ns` is 0 until a thread has it."""

    __slots__ = ("began_ns", "members", "options")

    def __init__(self, members: Sequence[Waiting]) -> None:
        self.members = members
        self.options = RunOptions()
        self.began_ns = 0


def kind_of(model: OnnxModel, arrays: Arrays, rows: int) -> Kind | None:
    """What two requests must have in common to be joined; None if this one cannot be."""
    kind = []
    for name in model.input_names:
        array = arrays.get(name)
        if array is None or array.shape[:1] != (rows,) or not rows:
            return None
        kind.append((array.dtype.str, array.shape[1:]))
    return tuple(kind)


def run_timed(run: Run) -> list[Timed]:
    """Make the run, in this thread; one result a member. Raises ModelFailed or InvalidInput."""
    run.began_ns = began_ns = time.perf_counter_ns()
    members = run.members
    model = members[0].served.model
    if len(members) == 1:
        parts = [model.run(members[0].arrays, run.options)]
    else:
        joined = _join(model.input_names, [one.arrays for one in members])
        parts = _split(model.run(joined, run.options), [one.rows for one in members])
    run_us = (time.perf_counter_ns() - began_ns) // 1000
    return [
        Timed(outputs, run_us, (began_ns - one.asked_ns) // 1000)
        for one, outputs in zip(members, parts, strict=True)
    ]


def _join(names: Sequence[str], requests: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([arrays[name] for arrays in requests]) for name in names}


def _split(outputs: Arrays, rows: Sequence[int]) -> list[Arrays]:
    parts: list[Arrays] = [{} for _ in rows]
    for name, array in outputs.items():
        if array.shape[:1] != (sum(rows),):
            raise ModelFailed(f"output {name} has shape {array.shape} for {sum(rows)} rows")
        start = 0
        for part, count in zip(parts, rows, strict=True):
            part[name] = array[start : start + count]
            start += count
    return parts
