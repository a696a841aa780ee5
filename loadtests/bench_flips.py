"""How soon every worker serves by a change of roles, while clients do not stop asking.

Bars: all workers have acknowledged each flip within a second of its being asked for, and 99 of
100 within a quarter of one. A request that is not answered with 200 meanwhile ends the run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from loadtests.bench_figures import Figure, at_most
from loadtests.bench_gateway import Operator, gateway_target
from loadtests.bench_processes import Running, running
from loadtests.bench_rounds import drive

SLOWEST_BAR_S, P99_BAR_S = 1.0, 0.25
WORKERS, FLIPS = 4, 200
_LOAD_S = 2.0


def flips_figures(models: Path, state: Path, bodies: Path, *, endpoint: str) -> list[Figure]:
    """Flip between versions 1 and 2 of the endpoint under load; the times are seconds."""
    target = gateway_target(
        "flips", endpoint=endpoint, models=models, state=state, bodies=bodies, workers=WORKERS
    )
    with running(target, log=state.with_suffix(".log")) as server:
        operator = Operator(server, endpoint)
        operator.challenge("2")
        took_s = sorted(_flips(server, operator))
    spread = f"least {took_s[0]:.2f}, median {median(took_s):.2f}; n = {len(took_s)}"
    name = f"flip to its last acknowledgement, {WORKERS} workers under load"
    return [
        at_most(f"{name}, p99", took_s[len(took_s) * 99 // 100 - 1], P99_BAR_S, "s", note=spread),
        at_most(f"{name}, slowest", took_s[-1], SLOWEST_BAR_S, "s", note=spread),
    ]


def _flips(server: Running, operator: Operator) -> Iterator[float]:
    """Seconds from asking for each flip until the last worker had acknowledged it."""
    over = threading.Event()
    loading = threading.Thread(target=_load, args=(server, over))
    loading.start()
    try:
        for number in range(FLIPS):
            share_bp = 1000 + 7000 * (number % 2)
            yield operator.split({"1": 10_000 - share_bp, "2": share_bp})
    finally:
        over.set()
        loading.join()


def _load(server: Running, over: threading.Event) -> None:
    while not over.is_set():
        drive(server, seconds=_LOAD_S)
