"""Ten minutes of everything at once: does memory stay flat? `python -m loadtests.soak`

Two workers, a challenger in shadow, requests at a steady pace, a label for each, metrics and
status read as a monitor would, and the split flipped back and forth. After a warm-up the memory,
open files and threads of every process are fitted with a line over time (least squares).

The bar is on what the line gains in ten minutes. Caches and the allocator's reserves fill up in
the first minutes, which is what the warm-up is for; a leak goes on. Exit status 1 over the bar.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import numpy as np
import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtests.bench_gateway import ADMIN_KEY, Operator, gateway_target
from loadtests.bench_processes import Running, running, tree
from loadtests.servers.tree_model import INPUT, OUTPUT, WIDTH, train

_ENDPOINT = "soak"
_ENDPOINT_FILE = f'champion: "1"\nprediction:\n  output: {OUTPUT}\n'
_ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}
_CONNECTIONS = 4
_LOOK_EVERY_S = 2.0
_FLIP_EVERY_S = 5.0
_LABELS_AT_A_TIME = 200
#: Gain of the line in ten minutes: a tenth of a worker would end a week's run.
_BAR_MB = 10.0


@dataclass(slots=True)
class Looks:
    """What one process held at each look: seconds, MB, open files, threads."""

    name: str
    at_s: list[float] = field(default_factory=list)
    mb: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def gain(self, values: list[float] | list[int], warm_s: float) -> float:
        """What the least-squares line through the looks after the warm-up gains in 600 s."""
        at_s = np.asarray(self.at_s)
        warm = at_s >= warm_s
        slope, _ = np.polyfit(at_s[warm], np.asarray(values, dtype=float)[warm], 1)
        return float(slope) * 600


@dataclass(slots=True)
class Traffic:
    """What was sent and answered; any answer that is not a success ends the soak."""

    requests: int = 0
    labels: int = 0
    flips: int = 0
    unlabelled: list[str] = field(default_factory=list)


def main() -> None:
    """Soak and report."""
    options = _options()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="audition-soak-") as name:
        folder = Path(name)
        _write_models(folder / "models" / _ENDPOINT)
        target = gateway_target(
            _ENDPOINT,
            endpoint=_ENDPOINT,
            models=folder / "models",
            state=folder / "state",
            bodies=folder / "none",
        )
        target = replace(target, command=(*target.command, "--workers", "2"))
        with running(target, log=folder / "gateway.log") as server:
            Operator(server, _ENDPOINT).challenge("2")
            traffic, looks = asyncio.run(_soak(server, options, console))
        kept_bytes = sum(file.stat().st_size for file in (folder / "state").rglob("*.*"))
    _report(console, traffic, looks, kept_bytes, options.seconds / 4)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.soak", description="A memory soak.")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second (300)")
    return parser.parse_args()


def _write_models(endpoint: Path) -> None:
    for seed in (1, 2):
        train(endpoint / str(seed) / "model.onnx", seed=seed)
    (endpoint / "endpoint.yaml").write_text(_ENDPOINT_FILE)


async def _soak(
    server: Running, options: argparse.Namespace, console: Console
) -> tuple[Traffic, dict[int, Looks]]:
    traffic, looks = Traffic(), dict[int, Looks]()
    ends_at = time.monotonic() + options.seconds
    url = f"http://127.0.0.1:{server.port}"
    with Progress(console=console, disable=not console.is_terminal) as progress:
        shown = progress.add_task("soaking", total=options.seconds)

        def told(spent_s: float) -> None:
            progress.update(shown, completed=spent_s)

        async with (
            aiohttp.ClientSession(url, raise_for_status=True) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(_CONNECTIONS):
                group.create_task(_ask(client, traffic, ends_at, options.rate / _CONNECTIONS))
            group.create_task(_label(client, traffic, ends_at))
            group.create_task(_operate(client, traffic, ends_at))
            group.create_task(_look(server, looks, ends_at, told))
    return traffic, looks


async def _ask(
    client: aiohttp.ClientSession, traffic: Traffic, ends_at: float, rate: float
) -> None:
    random = np.random.default_rng(1)
    due = time.monotonic()
    while due < ends_at:
        row = random.normal(size=WIDTH).round(3).tolist()
        tensor = {"name": INPUT, "shape": [1, WIDTH], "datatype": "FP32", "data": row}
        async with client.post(f"/v2/models/{_ENDPOINT}/infer", json={"inputs": [tensor]}) as got:
            await got.read()
            traffic.unlabelled.append(got.headers["x-prediction-id"])
        traffic.requests += 1
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _label(client: aiohttp.ClientSession, traffic: Traffic, ends_at: float) -> None:
    made = await client.post("/v1/keys", json={"name": "soak", "role": "label"}, headers=_ADMIN)
    token = (await made.json())["token"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
    while time.monotonic() < ends_at:
        due, traffic.unlabelled = (
            traffic.unlabelled[:_LABELS_AT_A_TIME],
            traffic.unlabelled[_LABELS_AT_A_TIME:],
        )
        rows = [json.dumps({"prediction_id": one, "label": int(one[-1], 16) % 2}) for one in due]
        if rows:
            async with client.post("/v1/labels", data="\n".join(rows), headers=headers) as got:
                await got.read()
            traffic.labels += len(rows)
        await asyncio.sleep(0.25)


async def _operate(client: aiohttp.ClientSession, traffic: Traffic, ends_at: float) -> None:
    path = f"/v1/endpoints/{_ENDPOINT}"
    shares = itertools.cycle(({"1": 9_000, "2": 1_000}, {"1": 10_000, "2": 0}))
    while time.monotonic() < ends_at:
        async with client.get("/metrics", headers=_ADMIN) as got:
            await got.read()
        async with client.get(path, headers=_ADMIN) as got:
            epoch = (await got.json())["epoch"]
        change = {"weights_bp": next(shares), "reason": "soak"}
        headers = {**_ADMIN, "If-Match": f'"{epoch}"'}
        async with client.put(f"{path}/split", json=change, headers=headers) as got:
            await got.read()
        traffic.flips += 1
        await asyncio.sleep(_FLIP_EVERY_S)


async def _look(
    server: Running, looks: dict[int, Looks], ends_at: float, told: Callable[[float], None]
) -> None:
    begun = time.monotonic()
    while (now := time.monotonic()) < ends_at:
        for pid in tree(server.pid):
            try:
                process = psutil.Process(pid)
                held = looks.setdefault(pid, Looks(_name(process)))
                mb, files = process.memory_info().rss / 1e6, process.num_fds()
                threads = process.num_threads()
            except psutil.NoSuchProcess:
                continue
            held.at_s.append(now - begun)
            held.mb.append(mb)
            held.files.append(files)
            held.threads.append(threads)
        told(now - begun)
        await asyncio.sleep(_LOOK_EVERY_S)


def _name(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    for mark, name in (
        ("--service-name Gateway", "worker"),
        ("--service-name Evaluator", "Evaluator"),
        ("gateway.runtimes.runner", "runner"),
        ("resource_tracker", "resource tracker"),
    ):
        if mark in command:
            return name
    return "supervisor"


def _report(
    console: Console,
    traffic: Traffic,
    looks: dict[int, Looks],
    kept_bytes: int,
    warm_s: float,
) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("process")
    for heading in ("looks", "MB at the end", "gains in 10 min: MB", "files", "threads"):
        table.add_column(heading, justify="right")
    worst = 0.0
    # Processes that end early, such as those that inspect a model, leave nothing to fit.
    lasting = [one for one in looks.values() if one.at_s and one.at_s[-1] > 3 * warm_s]
    for one in lasting:
        gained_mb = one.gain(one.mb, warm_s)
        worst = max(worst, gained_mb)
        table.add_row(
            one.name,
            f"{len(one.at_s)}",
            f"{one.mb[-1]:.0f}",
            f"{gained_mb:+.1f}",
            f"{one.gain(one.files, warm_s):+.1f}",
            f"{one.gain(one.threads, warm_s):+.1f}",
        )
    console.print(table)
    console.print(
        f"{traffic.requests:,} requests, {traffic.labels:,} labels, {traffic.flips} flips, "
        f"{kept_bytes / max(traffic.requests, 1):,.0f} bytes kept a request; "
        f"worst gain {worst:+.1f} MB, bar {_BAR_MB:g} MB"
    )
    if worst > _BAR_MB:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
