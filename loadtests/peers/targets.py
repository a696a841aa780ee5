"""How each server is started: its documentation's own command, one worker, on loopback."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench_gateway import gateway_target
from loadtests.bench_processes import ROOT, Target
from loadtests.peers.environments import interpreter, version

ENDPOINT = "bench"
_ONE_WORKER = {"debug": False, "parallel_workers": 0, "host": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Peer:
    """A server of somebody else, and which distribution it is."""

    name: str
    distribution: str
    version: str
    target: Target


@dataclass(frozen=True, slots=True)
class Setting:
    """What all servers get: a model file, a body, how many requests may be joined, a folder."""

    model: Path
    body: Path
    max_batch: int
    folder: Path


def peers(setting: Setting) -> list[Peer]:
    """Every peer; makes the environments that are missing."""
    return [
        _peer("FastAPI", "fastapi", setting, _fastapi),
        _peer("BentoML", "bentoml", setting, _bentoml),
        _peer("MLServer", "mlserver", setting, _mlserver),
        _peer("LitServe", "litserve", setting, _litserve),
        _peer("mosec", "mosec", setting, _mosec),
    ]


def gateways(setting: Setting) -> dict[str, Target]:
    """The gateway twice: alone, and with a challenger to be put in shadow."""
    return {
        name: gateway_target(
            name,
            endpoint=ENDPOINT,
            models=setting.folder / "models",
            state=setting.folder / name.replace(" ", "-"),
            bodies=setting.body,
        )
        for name in ("Audition", "Audition with a shadow")
    }


def _peer(
    name: str, distribution: str, setting: Setting, make: Callable[[Path, Setting], Target]
) -> Peer:
    own = distribution != "bentoml"  # which is ours as well
    python = interpreter(distribution) if own else Path(sys.executable)
    return Peer(name, distribution, version(python, distribution), make(python, setting))


def _target(
    name: str, command: tuple[str, ...], setting: Setting, *, path: str, ready: str
) -> Target:
    return Target(
        name=name,
        command=command,
        path=path,
        bodies=setting.body,
        ready_path=ready,
        environment={
            "BENCH_MODEL": str(setting.model),
            "BENCH_MAX_BATCH": str(setting.max_batch),
            "PYTHONPATH": str(ROOT),
            "BENTOML_HOME": str(setting.folder / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false",
        },
    )


def _fastapi(python: Path, setting: Setting) -> Target:
    command = (str(python), "-m", "loadtests.peers.fastapi_server", "{port}")
    return _target("fastapi", command, setting, path="/infer", ready="/health")


def _litserve(python: Path, setting: Setting) -> Target:
    command = (str(python), "-m", "loadtests.peers.litserve_server", "{port}")
    return _target("litserve", command, setting, path="/infer", ready="/health")


def _mosec(python: Path, setting: Setting) -> Target:
    command = (str(python), "-m", "loadtests.peers.mosec_server", "--port", "{port}")
    command += ("--address", "127.0.0.1", "--log-level", "warning")
    return _target("mosec", command, setting, path="/inference", ready="/metrics")


def _bentoml(python: Path, setting: Setting) -> Target:
    command = (str(python), "-m", "bentoml", "serve", "loadtests.peers.bentoml_service:Plain")
    command += ("--host", "127.0.0.1", "--port", "{port}")
    return _target("bentoml", command, setting, path="/infer", ready="/readyz")


def _mlserver(python: Path, setting: Setting) -> Target:
    folder = setting.folder / "mlserver"
    folder.mkdir()
    settings = {**_ONE_WORKER, "metrics_endpoint": None, "gzip_enabled": False, "grpc_port": 0}
    (folder / "settings.json").write_text(json.dumps(settings))
    model: dict[str, object] = {
        "name": ENDPOINT,
        "implementation": "loadtests.peers.mlserver_runtime.Served",
    }
    if setting.max_batch > 1:
        model |= {"max_batch_size": setting.max_batch, "max_batch_time": 0.001}
    (folder / "model-settings.json").write_text(json.dumps(model))
    # `env` becomes the server, so the port can be told like everybody else's.
    command = ("env", "MLSERVER_HTTP_PORT={port}", str(python.with_name("mlserver")), "start")
    return _target(
        "mlserver",
        (*command, str(folder)),
        setting,
        path=f"/v2/models/{ENDPOINT}/infer",
        ready=f"/v2/models/{ENDPOINT}/ready",
    )
