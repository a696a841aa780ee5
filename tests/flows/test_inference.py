"""The protocol as its public client speaks it to a real gateway."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.flows.endpoints import ECHO
from tests.serving_process import ServingProcess

COLUMNS = {
    "fp16": np.array([[-0.0], [6e-8]], np.float16),
    "fp32": np.array([[1.5], [-0.1]], np.float32),
    "fp64": np.array([[0.1], [1e300]], np.float64),
    "int8": np.array([[-128], [127]], np.int8),
    "int16": np.array([[-(2**15)], [2**15 - 1]], np.int16),
    "int32": np.array([[-1], [2**31 - 1]], np.int32),
    "int64": np.array([[-(2**63)], [2**63 - 1]], np.int64),
    "uint8": np.array([[0], [255]], np.uint8),
    "uint16": np.array([[1], [2**16 - 1]], np.uint16),
    "uint32": np.array([[2], [2**32 - 1]], np.uint32),
    "uint64": np.array([[3], [2**64 - 1]], np.uint64),
    "bool": np.array([[True], [False]]),
    "bytes": np.array([["naïve".encode()], [b""]], object),
}


@pytest.fixture(scope="module")
def triton(gateway: ServingProcess) -> Iterator[InferenceServerClient]:
    """The public client."""
    with gateway.triton() as client:
        yield client


def _inputs(*, binary: bool) -> list[InferInput]:
    inputs = []
    for name, column in COLUMNS.items():
        one = InferInput(f"in_{name}", list(column.shape), np_to_triton_dtype(column.dtype))
        # The client itself writes no FP16 as JSON.
        inputs.append(one.set_data_from_numpy(column, binary_data=binary or name == "fp16"))
    return inputs


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_a_batch_may_be_empty(
    triton: InferenceServerClient,
    binary: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """No rows in, no rows out, each output in its own type."""
    inputs = [
        InferInput(f"in_{name}", [0, 1], np_to_triton_dtype(column.dtype)).set_data_from_numpy(
            column[:0], binary_data=binary or name == "fp16"
        )
        for name, column in COLUMNS.items()
    ]
    answer = triton.infer(ECHO, inputs, outputs=_outputs(*COLUMNS, binary=binary))
    for name, column in COLUMNS.items():
        given = answer.as_numpy(f"out_{name}")
        assert given.shape == (0, 1) and given.dtype == column.dtype


def _outputs(*names: str, binary: bool) -> list[InferRequestedOutput]:
    return [InferRequestedOutput(f"out_{name}", binary_data=binary) for name in names]


@pytest.mark.parametrize("sent_binary", [False, True], ids=["json-in", "binary-in"])
@pytest.mark.parametrize("asked_binary", [False, True], ids=["json-out", "binary-out"])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_every_datatype_comes_back_bit_for_bit(
    gateway: ServingProcess,
    triton: InferenceServerClient,
    sent_binary: bool,  # noqa: FBT001 - a parameter of the test
    asked_binary: bool,  # noqa: FBT001 - likewise
    compression: str | None,
) -> None:
    """JSON or binary, either way, compressed or not: the model's identity is the client's."""
    answer = triton.infer(
        ECHO,
        _inputs(binary=sent_binary),
        outputs=_outputs(*COLUMNS, binary=asked_binary),
        request_id="mine",
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    assert answer.get_response()["id"] == "mine"
    for name, column in COLUMNS.items():
        given = answer.as_numpy(f"out_{name}")
        assert given.shape == column.shape
        assert column.dtype == object or given.tobytes() == column.tobytes()
        texts = [one.decode() if isinstance(one, bytes) else one for one in given.ravel().tolist()]
        sent = [one.decode() if isinstance(one, bytes) else one for one in column.ravel().tolist()]
        assert texts == sent


def test_only_the_outputs_asked_for_are_sent(
    gateway: ServingProcess, triton: InferenceServerClient
) -> None:
    """Without `outputs` all of them come; with it, those in their order."""
    every = triton.infer(ECHO, _inputs(binary=True)).get_response()["outputs"]
    assert [one["name"] for one in every] == [f"out_{name}" for name in COLUMNS]
    two = triton.infer(ECHO, _inputs(binary=True), outputs=_outputs("bool", "fp32", binary=True))
    assert [one["name"] for one in two.get_response()["outputs"]] == ["out_bool", "out_fp32"]


def test_a_client_can_find_out_what_is_served(
    gateway: ServingProcess, triton: InferenceServerClient
) -> None:
    """Health, readiness, and the metadata of server, endpoint and version."""
    assert triton.is_server_live() and triton.is_server_ready()
    assert triton.is_model_ready(ECHO) and triton.is_model_ready(ECHO, "1")
    assert not triton.is_model_ready("nobody") and not triton.is_model_ready(ECHO, "9")
    assert triton.get_server_metadata()["name"] == "audition"
    for version in ("", "1"):
        metadata = triton.get_model_metadata(ECHO, version)
        assert metadata["name"] == ECHO and metadata["versions"] == ["1"]
        assert metadata["platform"] == "onnxruntime_onnx"
        assert {"name": "in_fp32", "datatype": "FP32", "shape": [-1, 1]} in metadata["inputs"]
        assert {"name": "out_bytes", "datatype": "BYTES", "shape": [-1, 1]} in metadata["outputs"]


def test_an_answer_says_which_prediction_it_is(
    gateway: ServingProcess, triton: InferenceServerClient
) -> None:
    """The id by which labels are joined, the version that ran and its role."""
    answer = triton.infer(ECHO, _inputs(binary=True), model_version="1").get_response()
    assert answer["model_name"] == ECHO and answer["model_version"] == "1"
    assert answer["parameters"]["role"] == "champion"
    again = triton.infer(ECHO, _inputs(binary=True)).get_response()
    ids = [one["parameters"]["prediction_id"] for one in (answer, again)]
    assert ids[0] != ids[1] and ids[0][:11] <= ids[1][:11], "unique, and ordered by time"


def test_the_public_client_reads_our_errors(
    gateway: ServingProcess, triton: InferenceServerClient
) -> None:
    """What is wrong and where, in the form that it understands."""
    with pytest.raises(InferenceServerException, match="nobody") as unknown:
        triton.infer("nobody", _inputs(binary=True))
    assert unknown.value.status() == "404"
    with pytest.raises(InferenceServerException, match="in_bool") as missing:
        triton.infer(ECHO, [one for one in _inputs(binary=True) if one.name() != "in_bool"])
    assert missing.value.status() == "400"
    with pytest.raises(InferenceServerException, match="9") as version:
        triton.infer(ECHO, _inputs(binary=True), model_version="9")
    assert version.value.status() == "404"


def test_a_bomb_is_refused_before_it_goes_off(gateway: ServingProcess) -> None:
    """16 KiB that would become 16 MiB and more: 413, and the worker answers on."""
    bomb = gzip.compress(b" " * (17 << 20))
    with gateway.http() as http:
        path = f"/v2/models/{ECHO}/infer"
        answer = http.post(path, content=bomb, headers={"content-encoding": "gzip"})
        assert answer.status_code == 413 and "bytes" in json.loads(answer.content)["error"]
        assert http.get("/v2/health/ready").status_code == 200
