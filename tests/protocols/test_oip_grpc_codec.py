"""Answers as messages: raw or typed, and never half of each."""

from __future__ import annotations

import numpy as np
from tritonclient.grpc import service_pb2

from gateway.core.records import TensorRecord
from gateway.protocols.oip_grpc_codec import encode_answer, infer_request, read_message


def test_an_output_without_a_typed_form_makes_all_of_them_raw() -> None:
    """FP16 has no field, and raw contents are for all outputs or none."""
    columns = {"FP16": np.array([0.5], np.float16), "FP32": np.array([0.25], np.float32)}
    outputs = [TensorRecord(name, name, (1,), one.tobytes()) for name, one in columns.items()]
    for sent, raw in ((outputs, True), (outputs[1:], False)):
        body = encode_answer(
            model_name="m",
            model_version="1",
            request_id=None,
            parameters={},
            outputs=sent,
            raw=False,
        )
        answer = service_pb2.ModelInferResponse.FromString(body)
        assert list(answer.raw_output_contents) == [one.data for one in sent] * raw
        assert answer.outputs[-1].contents.fp32_contents == [0.25] * (not raw)


def test_an_empty_tensor_needs_no_contents() -> None:
    """There is no element that could be missing; where there is one, it is asked for."""
    sent = service_pb2.ModelInferRequest()
    tensor = sent.inputs.add()
    tensor.name, tensor.datatype = "x", "FP32"
    tensor.shape.extend([0, 1])
    (read,) = infer_request(read_message(sent.SerializeToString())).inputs
    assert read.data == b""
    tensor.shape[0] = 1
    (read,) = infer_request(read_message(sent.SerializeToString())).inputs
    assert read.data is None
