"""How fast a challenger's shadow is, and whether it keeps up: rows a second, CPU, lag.

Requests of one row, as live traffic is, journalled before (the worker's cores are its own):

- one lane and its runner over the small model of the other figures: rows a second, and rows a
  second of CPU, which other work on the machine does not change;
- several challengers of one endpoint, one after the other, over one decoded journal;
- a model that takes long, against onnxruntime alone on batches of the same size. Rows a second
  of CPU, because a runner steps back behind everything else on the machine and the other does not;
- the whole Evaluator while requests come at a fixed pace: how far it is behind.

`python -m loadtests.bench_shadow [ROWS] [SECONDS]`
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import onnxruntime

from gateway.bootstrap.evaluator import calm_garbage_collection
from gateway.bootstrap.identity import now_us
from gateway.shadow.running import MAX_BATCH_ROWS
from loadtests.bench_processes import cpu_us, tree
from loadtests.bench_shadow_scene import (
    ENDPOINT,
    HEAVY_INPUTS,
    INPUT,
    Rows,
    Scene,
    drain,
    end,
    write_heavy,
    write_trees,
)
from loadtests.servers.tree_model import WIDTH

ROWS, PACE_S = 40_000, 10.0
ROWS_BAR, HEAVY_BAR, LAG_BAR_S = 30_000.0, 0.8, 1.0
PACE_PER_S = 5_000
_CHALLENGERS = 3
_HEAVY_ROWS = 1_024
_PASSES = 3
_LIMIT_S = 120.0

Found = dict[str, object]


def figures(rows: int = ROWS, pace_s: float = PACE_S) -> list[Found]:
    """Every figure of the shadow."""
    calm_garbage_collection()
    return [*_small(rows), *_several(rows), *_heavy(), *_paced(pace_s)]


def _small(rows: int) -> list[Found]:
    with tempfile.TemporaryDirectory(prefix="audition-shadow-") as name:
        write_trees(Path(name, "models"), versions=2)
        scene = Scene(Path(name), challengers=1)
        (lane,) = lanes = scene.lanes()
        speeds, costs = [], []
        for _ in range(_PASSES):
            scene.send(_random(rows, WIDTH))
            cpu_before_us = _own_and_children_us()
            speeds.append(rows / drain(lane))
            costs.append((_own_and_children_us() - cpu_before_us) / rows)
        end(lanes)
    return [
        _at_least("shadow rows a second, small model, one row each", max(speeds), ROWS_BAR, "1/s"),
        _at_least("shadow rows a second of CPU", 1e6 / median(costs), ROWS_BAR, "1/s"),
    ]


def _several(rows: int) -> list[Found]:
    with tempfile.TemporaryDirectory(prefix="audition-shadow-") as name:
        write_trees(Path(name, "models"), versions=1 + _CHALLENGERS)
        scene = Scene(Path(name), challengers=_CHALLENGERS)
        lanes = scene.lanes()
        costs: list[list[float]] = [[] for _ in lanes]
        for _ in range(_PASSES):
            scene.send(_random(rows // 4, WIDTH))
            for lane, cost in zip(lanes, costs, strict=True):
                before_us = _own_and_children_us()
                drain(lane)
                cost.append((_own_and_children_us() - before_us) / (rows // 4))
        end(lanes)
    first, *others = [median(cost) for cost in costs]
    return [_given("CPU of a further challenger a row / the first", median(others) / first, "x")]


def _heavy() -> list[Found]:
    with tempfile.TemporaryDirectory(prefix="audition-shadow-") as name:
        write_heavy(Path(name, "models"))
        scene = Scene(Path(name), challengers=1)
        (lane,) = lanes = scene.lanes()
        alone = _session(Path(name, "models", ENDPOINT, "2", "model.onnx"))
        ratios, costs = [], []
        for _ in range(_PASSES):
            rows = _random(_HEAVY_ROWS, HEAVY_INPUTS)
            scene.send(rows)
            before_us = _own_and_children_us()
            _run_alone(alone, rows)
            between_us = _own_and_children_us()
            drain(lane)
            alone_us = between_us - before_us
            ratios.append(alone_us / (_own_and_children_us() - between_us))
            costs.append(alone_us / _HEAVY_ROWS)
        end(lanes)
    return [
        _at_least(
            f"shadow rows a CPU second, model of {median(costs):.0f} us / onnxruntime alone",
            median(ratios),
            HEAVY_BAR,
            "x",
        )
    ]


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run_alone(session: onnxruntime.InferenceSession, rows: Rows) -> None:
    for first in range(0, len(rows), MAX_BATCH_ROWS):
        session.run(None, {INPUT: rows[first : first + MAX_BATCH_ROWS]})


def _paced(seconds: float) -> list[Found]:
    with tempfile.TemporaryDirectory(prefix="audition-shadow-") as name:
        write_trees(Path(name, "models"), versions=2)
        scene, stopping = Scene(Path(name), challengers=1), threading.Event()
        evaluator = scene.evaluator(stopping)
        thread = threading.Thread(target=evaluator.run, name="evaluator")
        thread.start()
        try:
            scene.send(_random(2_000, WIDTH))
            _wait_done(scene)
            sent = int(seconds * PACE_PER_S)
            before_us, feeding_s = _own_and_children_us(), time.thread_time()
            lags = _feed(scene, sent)
            _wait_done(scene)
            spent_us = _own_and_children_us() - before_us
            spent_us -= (time.thread_time() - feeding_s) * 1e6
        finally:
            stopping.set()
            thread.join()
    half = len(lags) // 2
    return [
        _given("shadow lag at 5,000 requests/s, greatest of the first half", max(lags[:half]), "s"),
        _at_most(
            "shadow lag at 5,000 requests/s, greatest of the second half",
            max(lags[half:]),
            LAG_BAR_S,
            "s",
        ),
        _given("CPU of Evaluator and runner a request at 5,000/s", spent_us / sent, "us"),
    ]


def _feed(scene: Scene, requests: int) -> list[float]:
    """Send at the pace; every tenth of a second, how many seconds of it wait for their shadow."""
    lags: list[float] = []
    rows = _random(requests, WIDTH)
    began, piece = time.perf_counter(), PACE_PER_S // 100
    for first in range(0, requests, piece):
        time.sleep(max(0.0, began + first / PACE_PER_S - time.perf_counter()))
        scene.send(rows[first : first + piece])
        if first // piece % 10 == 0:
            lags.append(_waiting(scene) / PACE_PER_S)
    return lags


def _waiting(scene: Scene) -> float:
    """Requests that had no shadow frame yet when the Evaluator last reported."""
    said = scene.store.evaluator()
    if said is None:
        return math.inf
    challengers = msgspec.json.decode(said.body)["endpoints"][ENDPOINT]["challengers"]
    if "2" not in challengers:
        return math.inf
    bytes_a_request = scene.journal.offset / scene.journal.sequence
    return float(challengers["2"]["behind_bytes"]) / bytes_a_request


def _wait_done(scene: Scene) -> None:
    """Wait for a report that was made after the last request and lags behind nothing."""
    asked_us, deadline = now_us(), time.monotonic() + _LIMIT_S
    while (said := scene.store.evaluator()) is None or said.at_us < asked_us or _waiting(scene):
        if time.monotonic() > deadline:
            raise SystemExit("the Evaluator did not catch up")
        time.sleep(0.05)


def _random(rows: int, width: int) -> Rows:
    return np.random.default_rng(rows).normal(size=(rows, width)).astype(np.float32)


def _own_and_children_us() -> float:
    return sum(cpu_us(pid) for pid in tree(os.getpid()))


def _given(name: str, value: float, unit: str) -> Found:
    return {"name": name, "value": round(value, 3), "unit": unit}


def _at_least(name: str, value: float, bar: float, unit: str) -> Found:
    return {**_given(name, value, unit), "bar": f">= {bar:g}", "passed": value >= bar}


def _at_most(name: str, value: float, bar: float, unit: str) -> Found:
    return {**_given(name, value, unit), "bar": f"<= {bar:g}", "passed": value <= bar}


if __name__ == "__main__":
    for figure in figures(*map(int, sys.argv[1:])):
        print(figure)
