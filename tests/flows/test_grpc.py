"""A real gateway's gRPC port, shared by two workers: public clients, the journal, kill and stop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import psutil
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from onnx import TensorProto, helper
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.grpc.aio import InferenceServerClient as AioClient
from tritonclient.utils import InferenceServerException

from gateway.core.records import PredictionRecord
from gateway.journal.reader import JournalTail, writer_ids
from tests import moody_models
from tests.docs.pages import DOCS, blocks
from tests.serving_process import ServingProcess, eventually, free_port, start_server
from tests.synthetic_models import constant, write_endpoint

PLAIN, MOODY, DOCUMENTED = "plain", "moody", "tumours"
_FIRST, _SECOND = 40, 20


@pytest.fixture(scope="module")
def port() -> int:
    """The port of gRPC."""
    return free_port()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[ServingProcess]:
    """Two workers."""
    folder = tmp_path_factory.mktemp("grpc")
    write_endpoint(folder / "models", PLAIN, {"1": constant(0.5)})
    write_endpoint(folder / "models", MOODY, {"1": moody_models.endless()}, {"time_limit_ms": 3000})
    write_endpoint(folder / "models", DOCUMENTED, {"1": _documented()})
    server = start_server(
        folder,
        folder / "models",
        env={"AUDITION_GRPC_PORT": str(port), "AUDITION_MAX_WAITING_RUNS": "1"},
    )
    # Ready is said by one worker; the other may take its time on a busy machine.
    eventually(lambda: sum(_listens(one, port) for one in _workers(server)) == 2)
    yield server
    server.stop()


def _listens(worker: psutil.Process, port: int) -> bool:
    return any(
        one.status == psutil.CONN_LISTEN and one.laddr.port == port
        for one in worker.net_connections()
    )


def _documented() -> onnx.ModelProto:
    """What the page's example asks: `probabilities` of `features`."""
    numbers = helper.make_tensor("w", TensorProto.FLOAT, [30, 2], [0.0] * 60)
    names = (("features", ["rows", 30]), ("probabilities", ["rows", 2]))
    given, asked = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in names)
    node = helper.make_node("MatMul", ["features", "w"], ["probabilities"])
    graph = helper.make_graph([node], "documented", [given], [asked], [numbers])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _tensor(value: float = 1.0) -> list[InferInput]:
    column = np.full((1, 1), value, np.float32)
    return [InferInput("x", [1, 1], "FP32").set_data_from_numpy(column)]


def _trace(number: int) -> str:
    return f"{number + 1:032x}"


def _headers(number: int) -> dict[str, str]:
    return {"traceparent": f"00-{_trace(number)}-{'b' * 16}-00"}


def _id(answer: Any) -> str:
    return str(answer.get_response().parameters["prediction_id"].string_param)


def _records(server: ServingProcess) -> list[PredictionRecord]:
    root = server.state / "journal"
    tails = [JournalTail(root / writer_id) for writer_id in writer_ids(root)]
    records = [entry.record for tail in tails for entry in tail.drain()]
    return [record for record in records if isinstance(record, PredictionRecord)]


def _workers(server: ServingProcess) -> list[psutil.Process]:
    return [one for one in server.descendants() if "Gateway" in one.cmdline()]


def test_every_answer_is_journalled_with_its_callers_trace(
    served: ServingProcess, port: int
) -> None:
    """Sync client and aio client at once on many connections, over both workers."""

    async def many() -> dict[str, int]:
        found = {}
        for number in range(_FIRST, _FIRST + _SECOND, 5):
            # A channel of its own is a connection of its own.
            async with AioClient(f"127.0.0.1:{port}") as client:
                asked = [
                    client.infer(PLAIN, _tensor(), headers=_headers(n))
                    for n in range(number, number + 5)
                ]
                answers = await asyncio.gather(*asked)
            found |= {_id(answer): number + n for n, answer in enumerate(answers)}
        return found

    sent: dict[str, int] = {}
    for number in range(_FIRST):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with InferenceServerClient(f"127.0.0.1:{port}", channel_args=options) as client:
            answer = client.infer(PLAIN, _tensor(), headers=_headers(number))
        assert answer.as_numpy("score").tolist() == [[0.5]]
        sent[_id(answer)] = number
    sent |= asyncio.run(many())
    assert len(sent) == _FIRST + _SECOND
    kept = {one.prediction_id: one for one in _records(served)}
    for prediction_id, number in sent.items():
        record = kept[prediction_id]
        assert (record.trace_id, record.parent_span_id) == (_trace(number), "b" * 16)
        assert (record.endpoint, record.status, record.rows) == (PLAIN, "ok", 1)
    writers = {prediction_id[11:23] for prediction_id in sent}
    assert len(writers) == 2, "the kernel deals connections to both workers"


def test_keys_are_checked_as_over_rest(served: ServingProcess, port: int) -> None:
    """Open on loopback; a key that is sent is held to its role, and pinning needs one."""
    with InferenceServerClient(f"127.0.0.1:{port}") as client:
        cases: list[tuple[dict[str, str], str, str | None]] = [
            ({}, "", None),
            (served.authorization("infer"), "", None),
            (served.authorization("operate"), "1", None),
            (served.authorization("label"), "", "PERMISSION_DENIED"),
            (served.authorization("infer"), "1", "PERMISSION_DENIED"),
            ({"Authorization": "Bearer aud_infer_wrong"}, "", "UNAUTHENTICATED"),
            ({}, "1", "UNAUTHENTICATED"),
        ]
        for headers, version, status in cases:
            lower = {name.lower(): value for name, value in headers.items()}
            ask = {"model_version": version, "headers": lower}
            if status is None:
                client.infer(PLAIN, _tensor(), **ask)
                continue
            with pytest.raises(InferenceServerException) as refused:
                client.infer(PLAIN, _tensor(), **ask)
            assert refused.value.status() == f"StatusCode.{status}", (headers, version)


def test_errors_are_those_of_rest(served: ServingProcess, port: int) -> None:
    """The same words on either wire."""
    cases = {
        ("nobody", "x"): "NOT_FOUND",
        ("NOBODY", "x"): "INVALID_ARGUMENT",
        (PLAIN, "y"): "INVALID_ARGUMENT",
    }
    with InferenceServerClient(f"127.0.0.1:{port}") as client, served.http() as http:
        for (endpoint, name), status in cases.items():
            part = {"name": name, "shape": [1, 1], "datatype": "FP32", "data": [1]}
            told = http.post(f"/v2/models/{endpoint}/infer", json={"inputs": [part]})
            column = np.ones((1, 1), np.float32)
            tensor = InferInput(name, [1, 1], "FP32").set_data_from_numpy(column)
            with pytest.raises(InferenceServerException) as refused:
                client.infer(endpoint, [tensor])
            assert refused.value.status() == f"StatusCode.{status}"
            assert refused.value.message() == told.json()["error"]


def test_health_says_what_readyz_says(served: ServingProcess, port: int) -> None:
    """To any client of the health protocol, without a key."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = HealthStub(channel).Check(HealthCheckRequest(), timeout=30)
    assert answer.status == HealthCheckResponse.SERVING


def test_metrics_count_what_came_by_grpc(served: ServingProcess, port: int) -> None:
    """A record is a record."""
    with InferenceServerClient(f"127.0.0.1:{port}") as client:
        client.infer(PLAIN, _tensor())
    expected = sum(one.endpoint == PLAIN and one.status == "ok" for one in _records(served))
    eventually(lambda: _counted(served) == expected, within_s=60)


def _counted(server: ServingProcess) -> float:
    with server.http() as http:
        text = http.get("/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "audition_requests_total"
        and (sample.labels["endpoint"], sample.labels["status"]) == (PLAIN, "ok")
    )


def test_the_page_does_what_it_says(served: ServingProcess, port: int) -> None:
    """docs/grpc.md as it stands there."""
    (block,) = [one for one in blocks(DOCS / "grpc.md") if "test" in one.words]
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        env={**os.environ, "GATEWAY_GRPC": f"127.0.0.1:{port}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    prediction_id = done.stdout.split()[-1]
    (record,) = [one for one in _records(served) if one.prediction_id == prediction_id]
    assert record.attributes == {"clinic": "north"} and record.rows == 2
    assert (record.client_request_id, record.trace_id[:4]) == ("17", "0af7")


def test_a_second_gateway_on_the_port_is_refused(
    served: ServingProcess, port: int, tmp_path: Path
) -> None:
    """SO_REUSEPORT would let it in; the two would share the clients."""
    with pytest.raises(AssertionError, match=f"AUDITION_GRPC_PORT: 127.0.0.1:{port} "):
        start_server(
            tmp_path, served.state.parent / "models", env={"AUDITION_GRPC_PORT": str(port)}
        )


def test_the_log_holds_no_stack_trace(served: ServingProcess) -> None:
    """All of the above, refusals included, is ordinary work."""
    assert "Traceback" not in served.log_file.read_text()


def test_what_a_killed_worker_answered_is_kept(served: ServingProcess, port: int) -> None:
    """The other goes on answering at once, and clients connect anew."""
    answered: set[str] = set()
    victim = _workers(served)[0]
    killed = False

    def ask() -> None:
        with InferenceServerClient(f"127.0.0.1:{port}") as client:
            answered.add(_id(client.infer(PLAIN, _tensor())))

    for number in range(30):
        if number == 10:
            victim.kill()
            killed = True
            psutil.wait_procs([victim], timeout=30)
        try:
            ask()
        except InferenceServerException as error:
            assert killed and "UNAVAILABLE" in str(error.status())
    assert len(answered) >= 20
    assert answered <= {one.prediction_id for one in _records(served)}
    eventually(lambda: len(_workers(served)) == 2, within_s=60)


def test_a_stopping_gateway_answers_what_is_under_way(served: ServingProcess, port: int) -> None:
    """The last test of this server: a run that takes three seconds ends as it would have."""

    async def ask_and_stop() -> str:
        async with AioClient(f"127.0.0.1:{port}") as client:
            asked = asyncio.ensure_future(client.infer(MOODY, _tensor(1001.0)))
            # One connection is read in order: what was asked before this has arrived.
            assert await client.is_server_live()
            served.process.send_signal(signal.SIGTERM)
            with pytest.raises(InferenceServerException) as ended:
                await asked
            return str(ended.value.status())

    assert asyncio.run(ask_and_stop()) == "StatusCode.DEADLINE_EXCEEDED"
    served.process.wait(60)
    assert [one.status for one in _records(served) if one.endpoint == MOODY] == ["timed_out"]
