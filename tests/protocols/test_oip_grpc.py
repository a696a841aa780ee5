"""The protocol over gRPC: the public client's calls, and what becomes of those that fail."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from tritonclient.grpc import (
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
    InferResult,
    service_pb2,
)
from tritonclient.utils import InferenceServerException

from gateway.core.routes import EndpointRules, EntityRule
from gateway.core.tensors import DATATYPES, from_raw
from tests import models
from tests.protocols.grpc_scene import LIMIT_BYTES, GrpcScene
from tests.serving_process import eventually

MakeScene = Callable[..., GrpcScene]
INFER = "/inference.GRPCInferenceService/ModelInfer"
COLUMNS = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 2**8 - 1]], np.uint8),
    "UINT16": np.array([[0, 2**16 - 1]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "INT8": np.array([[-(2**7), 2**7 - 1]], np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "FP16": np.array([[0.1, -0.0]], np.float16),
    "FP32": np.array([[0.1, -0.0]], np.float32),
    "FP64": np.array([[0.1, 5e-324]], np.float64),
    "BYTES": np.array([["naïve".encode(), b""]], object),
}
#: Which field of `contents` holds what.
TYPED = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def tensor(column: Any = None, name: str = "x", datatype: str = "FP32") -> InferInput:
    """An input of the public client: three numbers unless another column is given."""
    if column is None:
        column = np.array([[0, 1, 2]], np.float32)
    return InferInput(name, list(column.shape), datatype).set_data_from_numpy(column)


def infer(scene: GrpcScene, *inputs: InferInput, **options: Any) -> InferResult:
    """One call of the public client; `model` is the endpoint."""
    model = options.pop("model", "demo")
    with InferenceServerClient(scene.address) as client:
        return client.infer(model, list(inputs) or [tensor()], **options)


def refused(scene: GrpcScene, *inputs: InferInput, **options: Any) -> tuple[str, str]:
    """Status and message of a call that fails."""
    with pytest.raises(InferenceServerException) as caught:
        infer(scene, *inputs, **options)
    return str(caught.value.status()).removeprefix("StatusCode."), str(caught.value.message())


def send(scene: GrpcScene, body: bytes, **options: Any) -> Any:
    """The answer to raw bytes, and the call."""
    with grpc.insecure_channel(scene.address) as channel:
        return channel.unary_unary(INFER).with_call(body, timeout=30, **options)


def typed(datatype: str = "FP32", column: Any = None, **contents: Any) -> Any:
    """A message whose input `x` is typed, in the field of its datatype or in the given one."""
    column = COLUMNS[datatype] if column is None else column
    message = service_pb2.ModelInferRequest(model_name="demo")
    part = message.inputs.add(name="x", datatype=datatype, shape=column.shape)
    for name, elements in (contents or {TYPED[datatype]: column.ravel().tolist()}).items():
        getattr(part.contents, name).extend(elements)
    return message


# -- tensors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_comes_back_bit_for_bit(make_grpc: MakeScene, datatype: str) -> None:
    """Raw, as the public client sends it."""
    scene = make_grpc({"1": models.identity(datatype)})
    column = COLUMNS[datatype]
    answer = infer(scene, tensor(column, datatype=datatype))
    assert answer.as_numpy("y").tobytes() == column.tobytes() or datatype == "BYTES"
    assert answer.as_numpy("y").tolist() == column.tolist()
    (record,) = scene.records()
    assert record.inputs[0].datatype == datatype and record.inputs[0].data == record.outputs[0].data


@pytest.mark.parametrize("datatype", TYPED)
def test_typed_contents_are_answered_typed(make_grpc: MakeScene, datatype: str) -> None:
    """In the field of the datatype, and with no raw contents beside it."""
    scene = make_grpc({"1": models.identity(datatype)})
    body, _ = send(scene, typed(datatype).SerializeToString())
    answer = service_pb2.ModelInferResponse.FromString(body)
    (output,) = answer.outputs
    assert not answer.raw_output_contents and list(output.shape) == [1, 2]
    assert list(getattr(output.contents, TYPED[datatype])) == COLUMNS[datatype].ravel().tolist()
    (record,) = scene.records()
    kept = from_raw(datatype, record.inputs[0].shape, record.inputs[0].data)
    assert kept.tolist() == COLUMNS[datatype].tolist()


def test_several_inputs_and_a_choice_of_outputs(make_grpc: MakeScene) -> None:
    """Outputs in the order in which they were asked for, all of them where none was."""
    scene = make_grpc({"1": models.pair()})
    inputs = [tensor(np.array([2, 3], np.float32), "a"), tensor(np.array([5, 7], np.float32), "b")]
    every = infer(scene, *inputs)
    assert [one.name for one in every.get_response().outputs] == ["total", "product"]
    assert every.as_numpy("total").tolist() == [7, 10]
    one = infer(scene, *inputs, outputs=[InferRequestedOutput("product")])
    assert [given.name for given in one.get_response().outputs] == ["product"]
    assert one.as_numpy("product").tolist() == [10, 21] and scene.records()[1].rows == 2


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_a_compressed_request_is_read(make_grpc: MakeScene, compression: str) -> None:
    """By the public client's own option."""
    scene = make_grpc({"1": models.linear()})
    assert infer(scene, compression_algorithm=compression).as_numpy("y").tolist() == [8]


# -- what goes with a request ----------------------------------------------------------------


def test_what_a_request_says_is_in_its_record(make_grpc: MakeScene) -> None:
    """Id, parameters under REST's names, unit and trace from the metadata."""
    rules = EndpointRules(event_time="client", entity=EntityRule("parameter", 60))
    scene = make_grpc({"1": models.linear()}, rules)
    answer = infer(
        scene,
        request_id="mine",
        priority=3,
        parameters={
            "occurred_at": "2013-04-01T05:15:00Z",
            "entity": "flight-1",
            "attributes": '{"carrier": "AA", "late": true, "miles": 2.5}',
            "unit": "me",
            "theirs": 1.5,
        },
        headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "x-unit": "other"},
    ).get_response()
    (record,) = scene.records()
    assert answer.id == record.client_request_id == "mine"
    assert answer.parameters["prediction_id"].string_param == record.prediction_id
    assert answer.parameters["role"].string_param == "champion" == record.role
    assert (answer.model_name, answer.model_version) == ("demo", "1")
    assert (record.trace_id, record.parent_span_id) == ("a" * 32, "b" * 16)
    assert (record.entity, record.occurred_at_us) == ("flight-1", 1_364_793_300_000_000)
    assert record.attributes == {"carrier": "AA", "late": True, "miles": 2.5}
    assert record.unit_hash is not None and record.client == "somebody"


def test_the_answer_names_its_prediction_and_its_trace(make_grpc: MakeScene) -> None:
    """In the metadata behind it, as REST has them in its headers."""
    scene = make_grpc({"1": models.identity("FP32")})
    _, call = send(scene, typed().SerializeToString())
    behind = dict(call.trailing_metadata())
    (record,) = scene.records()
    assert behind["x-prediction-id"] == record.prediction_id
    assert behind["traceparent"].split("-")[1:3] == [record.trace_id, record.span_id]


def test_unknown_fields_are_passed_over(make_grpc: MakeScene) -> None:
    """A client may be newer than the server."""
    scene = make_grpc({"1": models.identity("FP32")})
    body = typed().SerializeToString() + b"\xf2\x3f\x03new"
    assert service_pb2.ModelInferResponse.FromString(send(scene, body)[0]).model_name == "demo"


# -- what is refused -------------------------------------------------------------------------


def test_attributes_that_nest_without_end_are_bad_input(make_grpc: MakeScene) -> None:
    """As any other text that is no object, and on record."""
    scene = make_grpc({"1": models.linear()})
    for opening in ("[", '{"a":'):
        assert refused(scene, parameters={"attributes": opening * 3000}) == (
            "INVALID_ARGUMENT",
            "parameters.attributes: send an object as JSON in a string_param",
        )
    assert [one.status for one in scene.records()] == ["undecodable"] * 2


def test_bad_input_is_named_as_rest_names_it(make_grpc: MakeScene) -> None:
    """Each an INVALID_ARGUMENT that begins with the path, and one undecodable record."""
    scene = make_grpc({"1": models.linear()})
    nan = np.array([[0, np.nan, 2]], np.float32)
    wide = np.zeros((1, 4), np.float32)
    cases: dict[str, tuple[str, str]] = {
        "inputs[0].data: element 1 is NaN; send finite numbers": refused(scene, tensor(nan)),
        "inputs[0].shape: [1, 4] does not fit [-1, 3] (-1 is any)": refused(scene, tensor(wide)),
        "inputs[0].datatype: send FP32, as the model reads": refused(
            scene, tensor(np.zeros((1, 3)), datatype="FP64")
        ),
        "parameters.unit: it must be a string of 1 to 256 characters": refused(
            scene, parameters={"unit": 5}
        ),
        "parameters.attributes: send an object as JSON in a string_param": refused(
            scene, parameters={"attributes": "{"}
        ),
        "parameters.attributes: send an object of at most 32 values": refused(
            scene, parameters={"attributes": "[]"}
        ),
        "id: use printable characters only": refused(scene, request_id="\n"),
        "outputs[0].name: no such output; ask for one of y": refused(
            scene, outputs=[InferRequestedOutput("z")]
        ),
        "outputs[0].parameters.classification: not served; ask for the tensor": refused(
            scene, outputs=[InferRequestedOutput("y", class_count=2)]
        ),
    }
    for message, given in cases.items():
        assert given == ("INVALID_ARGUMENT", message)
    records = scene.records()
    assert [one.error for one in records] == list(cases)
    assert {(one.status, one.exclusion) for one in records} == {("undecodable", "undecodable")}


def _message(**parts: Any) -> Any:
    return service_pb2.ModelInferRequest(model_name="demo", **parts)


def _input(**parts: Any) -> Any:
    return service_pb2.ModelInferRequest.InferInputTensor(**{"name": "x", **parts})


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            _message(inputs=[_input(datatype="FP32", shape=[1, 3])], raw_input_contents=[b""] * 2),
            "raw_input_contents: 2 entries for 1 inputs; send one for each, or none",
        ),
        (
            _message(inputs=[_input(datatype="FP32", shape=[1, 3])], raw_input_contents=[b"1234"]),
            "inputs[0].data: shape [1, 3] of FP32 needs 12 bytes, 4 are there",
        ),
        (
            _message(inputs=[_input(datatype="FP32", shape=[-1, 3])]),
            "inputs[0].shape[0]: expected int >= 0",
        ),
        (
            _message(inputs=[_input(datatype="FP32", shape=[2**40, 3])]),
            "inputs[0].shape[0]: expected int <= 2147483647",
        ),
        (
            _message(inputs=[_input(datatype="FP32", shape=[1, 3])]),
            "inputs[0].data: send the elements",
        ),
        (
            _message(inputs=[_input(name="x" * 257)]),
            "inputs[0].name: expected str of length <= 256",
        ),
        (
            typed(int64_contents=[1, 2]),
            "inputs[0].contents.int64_contents: send FP32 as fp32_contents",
        ),
        (
            typed("FP16", fp32_contents=[1, 2]),
            "inputs[0].contents: holds no such elements; send raw_input_contents",
        ),
        (
            typed(fp32_contents=[1, float("inf")]),
            "inputs[0].data: element 1 is an infinity; send finite numbers",
        ),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_bad_tensors_are_refused_before_anything_is_made_of_them(
    make_grpc: MakeScene, message: Any, says: str
) -> None:
    """Counts, sizes and dimensions are held against what was really sent."""
    scene = make_grpc({"1": models.identity("FP32", shape=("rows", "any"))})
    with pytest.raises(grpc.RpcError) as caught:
        send(scene, message.SerializeToString())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == says
    (record,) = scene.records()
    assert record.error == says


def test_integers_are_held_to_their_datatype(make_grpc: MakeScene) -> None:
    """INT8 comes in a field that could hold more."""
    scene = make_grpc({"1": models.identity("INT8")})
    with pytest.raises(grpc.RpcError, match="out of the range of INT8"):
        send(scene, typed("INT8", int_contents=[1, 128]).SerializeToString())


def test_both_forms_at_once_are_refused(make_grpc: MakeScene) -> None:
    """Which of them is meant, nobody can say."""
    scene = make_grpc({"1": models.identity("FP32")})
    message = typed()
    message.raw_input_contents.append(b"12345678")
    with pytest.raises(grpc.RpcError, match="leave it out where raw_input_contents are sent"):
        send(scene, message.SerializeToString())


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05demo", b"\x0a\x02\xff\xfe"])
def test_bytes_that_are_no_message_are_refused(make_grpc: MakeScene, body: bytes) -> None:
    """Cut off, text that is no UTF-8, or nothing of the kind; they name no endpoint."""
    scene = make_grpc({"1": models.linear()})
    with pytest.raises(grpc.RpcError, match="ModelInferRequest") as caught:
        send(scene, body)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert scene.records() == []


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_message_over_the_limit_is_refused(
    make_grpc: MakeScene, compression: grpc.Compression | None
) -> None:
    """Also one that is only large when it is unpacked."""
    scene = make_grpc({"1": models.linear()})
    body = typed(bytes_contents=[bytes(100 * LIMIT_BYTES)]).SerializeToString()
    with pytest.raises(grpc.RpcError, match="larger than max") as caught:
        send(scene, body, compression=compression)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_who_may_not_is_told_so(make_grpc: MakeScene) -> None:
    """A pinned version needs the right to operate, unless the endpoint allows it."""
    scene = make_grpc({"1": models.linear()})
    assert refused(scene, model_version="1") == ("PERMISSION_DENIED", "may not operate demo")
    scene.rights = {"operate"}
    assert infer(scene, model_version="1").get_response().model_version == "1"
    assert refused(scene)[0] == "PERMISSION_DENIED"
    (record,) = scene.records()
    assert record.exclusion == "pinned"


def test_what_is_not_there_is_not_found(make_grpc: MakeScene) -> None:
    """Endpoints and versions; a name that cannot be one is the caller's mistake."""
    scene = make_grpc({"1": models.linear()})
    status, message = refused(scene, model="nobody")
    assert status == "NOT_FOUND" and "there are: demo" in message
    status, message = refused(scene, model_version="9")
    assert status == "NOT_FOUND" and "loaded are 1" in message
    assert refused(scene, model="../demo")[0] == "INVALID_ARGUMENT"
    assert scene.records() == []


@pytest.mark.parametrize(
    ("model", "status", "recorded"),
    [
        (models.constant(float("nan")), "INTERNAL", "nonfinite"),
        (models.refuses_zeros(), "INTERNAL", "failed"),
    ],
)
def test_a_failure_of_the_model_is_internal(
    make_grpc: MakeScene, model: bytes, status: str, recorded: str
) -> None:
    """And journalled as what it was."""
    scene = make_grpc({"1": model})
    assert refused(scene, tensor(np.zeros((1, 3), np.float32)))[0] == status
    assert [one.status for one in scene.records()] == [recorded]


def test_no_record_no_answer(make_grpc: MakeScene) -> None:
    """UNAVAILABLE, as REST has its 503."""
    scene = make_grpc({"1": models.linear()})
    scene.journal.problem = "the disk is full"
    status, message = refused(scene)
    assert status == "UNAVAILABLE" and "the disk is full" in message


# -- runs in threads -------------------------------------------------------------------------


def test_a_run_over_its_time_limit_is_stopped(make_grpc: MakeScene) -> None:
    """DEADLINE_EXCEEDED with the message of REST's 504."""
    scene = make_grpc(
        {"1": models.loop_while_positive()}, EndpointRules(time_limit_ms=100), is_inline=False
    )
    status, message = refused(scene)
    assert (status, message) == ("DEADLINE_EXCEEDED", "version 1 did not answer within 100 ms")
    assert [one.status for one in scene.records()] == ["timed_out"]


def test_a_client_that_gives_up_leaves_its_record(make_grpc: MakeScene) -> None:
    """Its deadline is kept; how the run ended is journalled all the same."""
    scene = make_grpc(
        {"1": models.loop_while_positive()}, EndpointRules(time_limit_ms=2000), is_inline=False
    )
    assert refused(scene, client_timeout=0.2)[0] == "DEADLINE_EXCEEDED"
    (record,) = eventually(scene.records, within_s=60)
    assert record.status == "timed_out" and record.latency_us >= 2_000_000


def test_a_stopping_port_waits_for_what_was_given_up(make_grpc: MakeScene) -> None:
    """The journal is closed after it, so the record must be there."""
    scene = make_grpc(
        {"1": models.loop_while_positive()}, EndpointRules(time_limit_ms=2000), is_inline=False
    )
    assert refused(scene, client_timeout=0.2)[0] == "DEADLINE_EXCEEDED"
    scene.stop()
    assert [one.status for one in scene.records()] == ["timed_out"]


def test_too_many_runs_are_told_when_to_try_again(make_grpc: MakeScene) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo, where gRPC's error model has it."""
    scene = make_grpc(
        {"1": models.loop_while_positive()},
        EndpointRules(time_limit_ms=3000),
        is_inline=False,
        threads=1,
        waiting=0,
    )
    first = threading.Thread(target=refused, args=(scene,))
    first.start()
    eventually(lambda: scene.runs.under_way)
    message = _message(
        inputs=[_input(datatype="FP32", shape=[1, 3])], raw_input_contents=[b"0" * 12]
    )
    with pytest.raises(grpc.RpcError) as caught:
        send(scene, message.SerializeToString())
    first.join()
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = RetryInfo()
    assert status.details[0].Unpack(info) and info.retry_delay.seconds == 1
    assert status.message == error.details() == "too many runs are waiting; try again"


# -- what is served --------------------------------------------------------------------------


def test_a_client_can_find_out_what_is_served(make_grpc: MakeScene) -> None:
    """Health, readiness, and the metadata of server, endpoint and version."""
    scene = make_grpc({"1": models.linear()})
    with InferenceServerClient(scene.address) as client:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("demo") and client.is_model_ready("demo", "1")
        assert not client.is_model_ready("demo", "9") and not client.is_model_ready("nobody")
        assert client.get_server_metadata().name == "audition"
        for version in ("", "1"):
            metadata = client.get_model_metadata("demo", version, as_json=True)
            assert metadata == {
                "name": "demo",
                "versions": ["1"],
                "platform": "onnxruntime_onnx",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "3"]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": ["-1"]}],
            }
        scene.ready = False
        assert client.is_server_live() and not client.is_server_ready()
        with pytest.raises(InferenceServerException, match="no endpoint"):
            client.get_model_metadata("nobody")


def test_what_is_served_is_for_those_who_may_infer(make_grpc: MakeScene) -> None:
    """Health is everybody's."""
    scene = make_grpc({"1": models.linear()})
    scene.rights = set()
    with InferenceServerClient(scene.address) as client:
        assert client.is_server_live() and client.is_server_ready()
        for ask in (client.get_server_metadata, lambda: client.get_model_metadata("demo")):
            with pytest.raises(InferenceServerException, match="may not infer"):
                ask()
