"""Where the seconds between the command and the first answer go.

`python -m loadtests.bench_startup`

Two starts over the flights models: the first inspects four new model files, the second finds
them known. The kernel says when each process began; `supervisor` is the time until the worker's
process begins (imports of the host, the control store, the inspection), `worker` the rest
(imports, opening store and journal, loading and warming the models).
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import psutil

from loadtests.bench_flights import build_flights_models
from loadtests.bench_gateway import gateway_target
from loadtests.bench_processes import running

_ENDPOINT = "flights"


def figures() -> list[dict[str, object]]:
    """Seconds to ready of a first and of a second start, by where they went."""
    with tempfile.TemporaryDirectory(prefix="audition-startup-") as name:
        folder = Path(name)
        models = build_flights_models(folder / "models")
        return [
            _figure(which, *_start(folder, models))
            for which in ("first start, 4 new model files", "start over known models")
        ]


def _figure(which: str, supervisor_s: float, worker_s: float) -> dict[str, object]:
    return {
        "name": f"start to ready: {which}",
        "value": supervisor_s + worker_s,
        "unit": "s",
        "n": 1,
        "supervisor_s": round(supervisor_s, 2),
        "worker_s": round(worker_s, 2),
    }


def _start(folder: Path, models: Path) -> tuple[float, float]:
    target = gateway_target(
        "startup",
        endpoint=_ENDPOINT,
        models=models,
        state=folder / "state",
        bodies=folder / "none",
    )
    with running(target, log=folder / "startup.log") as server:
        ready_at = time.time()
        begun_at = psutil.Process(server.pid).create_time()
        worker_at = psutil.Process(server.worker_pid()).create_time()
    return worker_at - begun_at, ready_at - worker_at


if __name__ == "__main__":
    for figure in figures():
        print(json.dumps(figure))
