"""A heavy model, with runs that are joined and with each run by itself.

`python -m loadtests.bench_heavy [TURNS [SECONDS]]`

Two gateways serve the same model of 2.4 ms a row: `joined` with the default rules, `alone` with
`max_batch_rows: 1`. They take turns, first over 16 connections and then over one.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from loadtests.bench_gateway import Operator, gateway_target
from loadtests.bench_processes import Target, running
from loadtests.bench_rounds import (
    CONNECTIONS,
    Contestant,
    Turn,
    median_of,
    median_ratio,
    take_turns,
)
from loadtests.servers.heavy_model import WIDTH, write_heavy

#: The best that servers with dynamic batching showed with a model of this cost, and what the
#: same model took without batching there: where the machine is slower, the ratios still hold.
CPU_BAR_US, REQUESTS_BAR = 764.0, 1191.0
ALONE_US, ALONE_REQUESTS = 2500.0, 400.0
LATENCY_BAR = 1.05
_ENDPOINT = "heavy"
_RULES = {"joined": "", "alone": "max_batch_rows: 1\n"}
_ROWS = 64

Found = dict[str, object]


def figures(turns: int = 5, seconds: int = 2) -> list[Found]:
    """Start both gateways, let them take turns; the figures with their bars."""
    with tempfile.TemporaryDirectory(prefix="audition-heavy-") as name, ExitStack() as stack:
        folder = Path(name)
        contestants = {}
        for target in _targets(folder):
            server = stack.enter_context(running(target, log=folder / f"{target.name}.log"))
            operator = Operator(server, _ENDPOINT)
            contestants[target.name] = Contestant(server, operator.wait_caught_up)
        many = take_turns(contestants, turns=turns, seconds=seconds)
        one = take_turns(contestants, turns=turns, seconds=seconds, connections=1)
    return [*_of_many(many), *_of_one(one)]


def _of_many(turns: Sequence[Turn]) -> list[Found]:
    where = f"heavy model, {CONNECTIONS} connections"
    cpu_us, requests_per_s = (
        median_of(turns, "joined", field) for field in ("worker_us", "requests_per_s")
    )
    cpu, throughput = (
        median_ratio(turns, "joined", "alone", field) for field in ("worker_us", "requests_per_s")
    )
    return [
        _at_most(f"worker CPU per request, {where}", cpu_us, CPU_BAR_US, "us"),
        _at_most(f"worker CPU, joined / alone, {where}", cpu, CPU_BAR_US / ALONE_US, "x"),
        _at_least(f"requests, {where}", requests_per_s, REQUESTS_BAR, "/s"),
        _at_least(
            f"requests, joined / alone, {where}", throughput, REQUESTS_BAR / ALONE_REQUESTS, "x"
        ),
    ]


def _of_one(turns: Sequence[Turn]) -> list[Found]:
    ratio = median_ratio(turns, "joined", "alone", "p50_ms")
    name = "median latency, joined / alone, heavy model, 1 connection"
    return [_at_most(name, ratio, LATENCY_BAR, "x")]


def _targets(folder: Path) -> list[Target]:
    bodies = _bodies(folder / "bodies.ndjson")
    targets = []
    for name, rules in _RULES.items():
        models = folder / name
        write_heavy(models / _ENDPOINT / "1" / "model.onnx")
        (models / _ENDPOINT / "endpoint.yaml").write_text(rules)
        targets.append(
            gateway_target(
                name,
                endpoint=_ENDPOINT,
                models=models,
                state=folder / f"state-{name}",
                bodies=bodies,
            )
        )
    return targets


def _bodies(path: Path) -> Path:
    rows = np.random.default_rng(2).standard_normal((_ROWS, WIDTH)).astype(np.float32)
    tensors = (
        {"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "data": row} for row in rows.tolist()
    )
    path.write_text("\n".join(json.dumps({"inputs": [tensor]}) for tensor in tensors))
    return path


def _found(name: str, value: float, unit: str) -> Found:
    return {"name": name, "value": round(value, 3), "unit": unit}


def _at_most(name: str, value: float, bar: float, unit: str) -> Found:
    return _found(name, value, unit) | {"bar": f"<= {bar:.3g}", "passed": value <= bar}


def _at_least(name: str, value: float, bar: float, unit: str) -> Found:
    return _found(name, value, unit) | {"bar": f">= {bar:.4g}", "passed": value >= bar}


def main() -> None:
    """Print each figure on a line."""
    for figure in figures(*map(int, sys.argv[1:3])):
        print(figure)


if __name__ == "__main__":
    main()
