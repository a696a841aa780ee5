"""The same gateway as a bento: `bentoml build` packs it, `bentoml serve` serves it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serving_process import (
    ServingProcess,
    environment,
    eventually,
    free_port,
    new_admin_key,
    started,
)
from tests.synthetic_models import constant, write_endpoint

ROOT = Path(__file__).parents[2]
ENDPOINT = "packed"
BODY = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BENTOML_HOME with the bento of a tree that holds tracked files only."""
    folder = tmp_path_factory.mktemp("bento")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        target = folder / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    built = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--output", "tag", "--version", "test"],
        cwd=folder / "tree",
        env=environment(_home(folder)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0 and "audition:test" in built.stdout, built.stdout + built.stderr
    return folder


def _home(folder: Path) -> dict[str, str]:
    return {"BENTOML_HOME": str(folder / "home"), "BENTOML_DO_NOT_TRACK": "True"}


@pytest.fixture(scope="module")
def packed(home: Path) -> Iterator[ServingProcess]:
    """The bento, served by BentoML's own command with two workers."""
    write_endpoint(home / "models", ENDPOINT, {"1": constant(0.5)})
    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", "audition:test"]
    env = {
        **_home(home),
        "AUDITION_STATE": str(home / "state"),
        "AUDITION_MODELS": str(home / "models"),
        "AUDITION_ADMIN_KEY": new_admin_key(),
        "AUDITION_WORKERS": "2",
        "HOME": str(home / "person"),
        # As in an image that `bentoml containerize` made.
        "BENTOML_CONTAINERIZED": "true",
        "AUDITION_GRPC_PORT": "0",
    }
    command += ["--host", "127.0.0.1", "--port", str(port)]
    server = started(ServingProcess(home, command, port=port, env=env))
    yield server
    server.stop()


def test_a_bento_holds_the_gateway_and_nothing_of_ours_besides(home: Path) -> None:
    """The package, and neither tests nor models nor state."""
    source = home / "home" / "bentos" / "audition" / "test" / "src"
    assert (source / "gateway" / "service.py").is_file()
    assert not [name for name in ("tests", "docs", "state") if (source / name).exists()]
    assert not list(source.rglob("*.onnx")) + list(source.rglob("endpoint.yaml"))


def test_a_served_bento_answers_like_the_gateway(packed: ServingProcess) -> None:
    """Ready, two workers, closed by default, and it runs what was packed."""
    with packed.http() as http:
        assert http.get("/readyz").status_code == 200
        assert http.post(f"/v2/models/{ENDPOINT}/infer", json=BODY).status_code == 401
    with packed.http("infer") as http:
        answer = http.post(f"/v2/models/{ENDPOINT}/infer", json=BODY)
    assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [0.5]
    assert len(packed.status(ENDPOINT)["workers"]) == 2
    workers = [
        one for one in packed.descendants() if "_bentoml_impl.worker.service" in one.cmdline()
    ]
    assert {Path(one.cwd()).name for one in workers} == {"src"}


def test_a_served_bento_keeps_its_state_to_itself(packed: ServingProcess) -> None:
    """As under `audition serve`: no other account of the machine can look in."""
    assert packed.state.stat().st_mode & 0o077 == 0


def test_onnxruntime_collects_nothing(packed: ServingProcess) -> None:
    """Its wheels would keep a database of events for their maker in the home folder."""
    with packed.http("infer") as http:
        assert http.post(f"/v2/models/{ENDPOINT}/infer", json=BODY).status_code == 200
    person = packed.state.parent / "person"
    assert not [path for path in person.rglob("*") if "onnxruntime" in path.name]


def test_a_worker_that_dies_in_a_container_is_replaced(packed: ServingProcess) -> None:
    """And what it had counted stays counted, in a file that is nobody's any more."""
    with packed.http("infer") as http:
        for _ in range(20):
            http.post(f"/v2/models/{ENDPOINT}/infer", json=BODY).raise_for_status()
    answered = eventually(lambda: _answered(packed) if _answered(packed) >= 20 else None)
    workers = _workers(packed)
    victim = workers.pop()
    victim.kill()
    eventually(lambda: len(_workers(packed)) == 2 and victim not in _workers(packed))
    metrics = packed.state.parent / "home" / "prometheus_multiproc_dir"
    eventually(lambda: not list(metrics.glob(f"*_{victim.pid}.db")))
    assert _answered(packed) >= answered


def _workers(server: ServingProcess) -> list[psutil.Process]:
    return [one for one in server.descendants() if _is_worker(one)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        command = process.cmdline()
    except psutil.NoSuchProcess:
        return False
    return "_bentoml_impl.worker.service" in command and "Gateway" in command


def _answered(server: ServingProcess) -> float:
    with server.http("view") as http:
        page = http.get("/metrics").raise_for_status().text
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "audition_requests_total" and sample.labels["endpoint"] == ENDPOINT
    )
