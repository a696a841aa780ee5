"""Rounds: the servers take turns, so that all of them meet the machine's slow and fast hours.

Rules: a round is short; ratios are taken within a turn and only their median counts; a fixed
calibration loop runs before every round and says how fast the machine was.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from loadtests.bench_processes import ROOT, Running, python

CONNECTIONS = 16
_CALIBRATION_LOOPS = 2_000_000


@dataclass(frozen=True, slots=True)
class Contestant:
    """A running server; `settle` returns when nothing of the last round is left to do."""

    server: Running
    settle: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Round:
    """What one server did with a few seconds of load. CPU is per request."""

    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    worker_us: float
    beside_us: float
    calibration_ms: float


#: One round of every server, by its name.
Turn = Mapping[str, Round]


def take_turns(
    contestants: Mapping[str, Contestant],
    *,
    turns: int,
    seconds: float,
    connections: int = CONNECTIONS,
) -> list[Turn]:
    """Warm every server, then let them take turns."""
    for contestant in contestants.values():
        _round(contestant, seconds=0.5, connections=connections)
    return [
        {
            name: _round(one, seconds=seconds, connections=connections)
            for name, one in contestants.items()
        }
        for _ in range(turns)
    ]


def median_of(turns: Sequence[Turn], name: str, field: str) -> float:
    """The median over turns of one server's figure."""
    return median(getattr(turn[name], field) for turn in turns)


def median_ratio(turns: Sequence[Turn], above: str, below: str, field: str) -> float:
    """The median over turns of `above`'s figure by `below`'s of the same turn."""
    return median(getattr(turn[above], field) / getattr(turn[below], field) for turn in turns)


def median_difference(turns: Sequence[Turn], first: str, second: str, field: str) -> float:
    """The median over turns of `first`'s figure minus `second`'s of the same turn."""
    return median(getattr(turn[first], field) - getattr(turn[second], field) for turn in turns)


def _round(contestant: Contestant, *, seconds: float, connections: int) -> Round:
    server = contestant.server
    calibration_ms = _calibrate_ms()
    worker_us, beside_us = server.worker_cpu_us(), server.beside_cpu_us()
    load = drive(server, seconds=seconds, connections=connections)
    worker_us = server.worker_cpu_us() - worker_us
    contestant.settle()
    beside_us = server.beside_cpu_us() - beside_us
    return Round(
        requests=load["requests"],
        requests_per_s=load["requests"] / load["took_s"],
        p50_ms=load["p50_ms"],
        p99_ms=load["p99_ms"],
        worker_us=worker_us / load["requests"],
        beside_us=beside_us / load["requests"],
        calibration_ms=calibration_ms,
    )


def drive(server: Running, *, seconds: float, connections: int = CONNECTIONS) -> dict[str, float]:
    """Load one server from a process of its own; what the generator reports."""
    target = server.target
    arguments = (server.port, target.path, target.bodies, seconds, connections)
    done = subprocess.run(
        python("-m", target.load, *map(str, arguments)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    if done.returncode:
        raise SystemExit(f"load on {target.name}: {done.stderr or done.stdout}")
    report: dict[str, float] = json.loads(done.stdout)
    return report


def _calibrate_ms() -> float:
    begun = time.process_time()
    sum(range(_CALIBRATION_LOOPS))
    return (time.process_time() - begun) * 1e3
