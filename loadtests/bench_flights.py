"""Memory of a worker and time to ready, with the example models of the flights.

All four versions are loaded: the champion and three challengers, each with a shadow lane.
"""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

from gateway.demo.flights import encode_request, load_flights, replay_requests
from loadtests.bench_figures import Figure, at_most
from loadtests.bench_gateway import Operator, gateway_target
from loadtests.bench_processes import ROOT, python, running
from loadtests.bench_rounds import drive

RSS_BAR_MB, READY_BAR_S = 250.0, 5.0
_ENDPOINT = "flights"
_REQUESTS = 2000


def flights_figures(folder: Path) -> list[Figure]:
    """Start the gateway over the flights models, send flights for a while, look at the worker."""
    models = build_flights_models(folder / "flights-models")
    target = gateway_target(
        "flights",
        endpoint=_ENDPOINT,
        models=models,
        state=folder / "state-flights",
        bodies=_bodies(folder / "flights.ndjson"),
    )
    with running(target, log=folder / "flights.log") as server:
        operator = Operator(server, _ENDPOINT)
        for version in ("2", "3", "4"):
            operator.challenge(version)
        drive(server, seconds=3.0)
        rss_mb = server.worker_rss_mb()
        return [
            at_most("memory of a worker, 4 flights models", rss_mb, RSS_BAR_MB, "MB"),
            at_most("start to ready, flights models", server.ready_s, READY_BAR_S, "s"),
        ]


def build_flights_models(models: Path) -> Path:
    """The repository of the demo's four models, trained into `models`."""
    subprocess.run(
        python("models/build_flights.py", "--output", str(models)),
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return models


def _bodies(path: Path) -> Path:
    april = replay_requests(load_flights().of_months((4,)))
    some = enumerate(itertools.islice(april, _REQUESTS))
    path.write_bytes(b"\n".join(encode_request(one, request_id=str(n)) for n, one in some))
    return path
