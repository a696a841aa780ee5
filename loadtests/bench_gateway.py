"""The gateway's side of the benchmark: its folders, its challengers, and when it has caught up.

Operators' own means only: a model repository, the environment and the admin API.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from loadtests.bench_processes import Running, Target, python

ADMIN_KEY = "aud_admin_" + "b" * 43
INFER = "/inference.GRPCInferenceService/ModelInfer"
_LIMIT_S = 60.0


def gateway_target(
    name: str,
    *,
    endpoint: str,
    models: Path,
    state: Path,
    bodies: Path,
    workers: int = 1,
    grpc_port: int = 0,
) -> Target:
    """A gateway over a model repository and a state folder of its own; without gRPC at 0."""
    return Target(
        name=name,
        command=python(
            *("-m", "gateway.cli", "serve"), *("--port", "{port}", "--workers", str(workers))
        ),
        path=f"/v2/models/{endpoint}/infer",
        bodies=bodies,
        ready_path="/readyz",
        worker="--service-name Gateway",
        beside="--service-name Evaluator",
        environment={
            "AUDITION_STATE": str(state),
            "AUDITION_MODELS": str(models),
            "AUDITION_ADMIN_KEY": ADMIN_KEY,
            "AUDITION_OPEN_INFERENCE": "true",
            "AUDITION_GRPC_PORT": str(grpc_port),
        },
    )


def over_grpc(server: Running, *, port: int, message: Path) -> Running:
    """The same server, sent one message over its gRPC port."""
    target = replace(
        server.target, name="grpc", path=INFER, bodies=message, load="loadtests.bench_grpc_load"
    )
    return replace(server, target=target, port=port)


class Operator:
    """Registers challengers and watches the Evaluator over the admin API."""

    def __init__(self, server: Running, endpoint: str) -> None:
        self._path = f"/v1/endpoints/{endpoint}"
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{server.port}",
            headers={"authorization": f"Bearer {ADMIN_KEY}"},
            timeout=30,
        )

    def challenge(self, version: str) -> None:
        """Register a challenger at 100% and wait until the worker has it and a lane runs."""
        self._change(f"challengers/{version}", {"sample_bp": 10_000})
        self._wait(lambda status: _has_lane(status, version), f"challenger {version} to run")

    def split(self, weights_bp: dict[str, int]) -> float:
        """Share the answers anew; the seconds until every worker had acknowledged it."""
        begun = time.monotonic()
        epoch = self._change("split", {"weights_bp": weights_bp})
        self._wait(
            lambda status: all(one.get("epoch", 0) >= epoch for one in status["workers"]),
            f"all workers to serve by epoch {epoch}",
        )
        return time.monotonic() - begun

    def wait_caught_up(self) -> None:
        """Wait until the Evaluator has archived, shadowed and looked at everything."""
        asked = time.monotonic()
        self._wait(
            lambda status: _is_idle(status, said_within_s=time.monotonic() - asked),
            "the Evaluator to catch up",
        )

    def _change(self, part: str, document: dict[str, Any]) -> int:
        """The epoch that the change made."""
        answer = self._client.put(
            f"{self._path}/{part}",
            headers={"if-match": f'"{self._status()["epoch"]}"'},
            json={"reason": "benchmark", **document},
        )
        if answer.is_error:
            raise SystemExit(f"{part} was refused: {answer.text}")
        return int(answer.json()["epoch"])

    def _status(self) -> dict[str, Any]:
        answer = self._client.get(self._path).raise_for_status()
        status: dict[str, Any] = answer.json()
        return status

    def _wait(self, is_done: Any, what: str) -> None:
        deadline = time.monotonic() + _LIMIT_S
        while not is_done(status := self._status()):
            if time.monotonic() > deadline:
                raise SystemExit(f"waited too long for {what}: {status}")
            time.sleep(0.1)


def _has_lane(status: dict[str, Any], version: str) -> bool:
    lagging = any(worker["is_lagging"] for worker in status["workers"])
    return not lagging and any(
        one["version"] == version and one["shadow"] is not None for one in status["challengers"]
    )


def _is_idle(status: dict[str, Any], *, said_within_s: float) -> bool:
    evaluator = status["evaluator"]
    if evaluator is None or evaluator["age_s"] > said_within_s or evaluator["lag_bytes"]:
        return False
    return all(one["shadow"]["behind_bytes"] == 0 for one in status["challengers"])
