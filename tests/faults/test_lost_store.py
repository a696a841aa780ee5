"""The control store is deleted under a running gateway, a worker dies, and all is started anew."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

from tests import moody_models
from tests.faults.ledger import Ledger
from tests.serving_process import ServingProcess, eventually, free_port, start_server
from tests.synthetic_models import write_endpoint

ENDPOINT = "lost"

pytestmark = pytest.mark.timeout(300)


def answering(server: ServingProcess) -> str | None:
    """The version that answers; None while nobody does."""
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0]}]}
    try:
        with server.http() as http:
            answer = http.post(f"/v2/models/{ENDPOINT}/infer", json=body)
    except httpx.TransportError:
        return None
    return str(answer.json()["model_version"]) if answer.status_code == 200 else None


def test_a_lost_store_sends_no_traffic_back_to_the_defaults(tmp_path: Path) -> None:
    """Workers serve what they served, also one that starts then; a new start is refused, and
    goes on where it was once the file is back."""
    versions = {version: moody_models.calm() for version in "12"}
    for version, model in versions.items():
        model.doc_string = version
    write_endpoint(tmp_path / "models", ENDPOINT, versions, {"champion": "1"})
    server = start_server(tmp_path / "gateway", tmp_path / "models", workers=1)
    try:
        assert server.cli("challenge", ENDPOINT, "2").returncode == 0
        forced = server.cli("promote", ENDPOINT, "2", "--force", "--reason", "test")
        assert forced.returncode == 0, forced.stderr
        assert answering(server) == "2"
        (worker,) = Ledger(server).workers()
        files = list(server.state.glob("control.sqlite*"))
        for file in files:
            file.rename(tmp_path / file.name)
        worker.kill()
        eventually(lambda: not worker.is_running() and answering(server) == "2", within_s=120)
        assert not (server.state / "control.sqlite").exists()
    finally:
        server.stop()
    refused = restarted(server, tmp_path)
    try:
        eventually(lambda: refused.process.poll() is not None, within_s=60)
        assert "put its file back" in refused.log()
    finally:
        refused.stop()
    assert not (server.state / "control.sqlite").exists()
    for file in files:
        (tmp_path / file.name).rename(file)
    again = restarted(server, tmp_path)
    try:
        assert eventually(lambda: answering(again), within_s=120) == "2"
    finally:
        again.stop()


def restarted(server: ServingProcess, folder: Path) -> ServingProcess:
    """The same gateway started once more, ready or not."""
    port = free_port()
    command = [sys.executable, "-m", "gateway.cli", "serve", "--port", str(port)]
    env = {
        "AUDITION_STATE": str(server.state),
        "AUDITION_MODELS": str(folder / "models"),
        "AUDITION_ADMIN_KEY": server.admin_key,
        "AUDITION_GRPC_PORT": "0",
    }
    return ServingProcess(folder / "gateway", command, port=port, env=env)
