"""Answers: which outputs, in which form, and their bytes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from gateway.core.tensors import Signature, TensorSpec
from gateway.errors import InvalidInput
from gateway.protocols.oip_request import decode_request
from gateway.protocols.oip_response import OutputChoice, encode_response, requested_outputs

SIGNATURE = Signature((), (TensorSpec("label", "INT64", (-1,)), TensorSpec("p", "FP32", (-1, 2))))


def choice(**request: Any) -> OutputChoice:
    body = json.dumps({"inputs": []} | request).encode()
    return requested_outputs(decode_request(body, None), SIGNATURE)


def test_all_outputs_are_answered_as_json_unless_asked_otherwise() -> None:
    """Nothing said means everything, in the model's order, as JSON."""
    everything = OutputChoice(("label", "p"), frozenset())
    assert choice() == everything
    assert choice(outputs=[], parameters={"unit": "u"}) == everything
    assert choice(parameters={"binary_data_output": False}) == everything


def test_outputs_and_their_form_can_be_chosen() -> None:
    """A request-wide wish for binary gives way to that of the single output."""
    assert choice(outputs=[{"name": "p"}]) == OutputChoice(("p",), frozenset())
    assert choice(parameters={"binary_data_output": True}).binary == {"label", "p"}
    outputs = [{"name": "p", "parameters": {"binary_data": False}}, {"name": "label"}]
    chosen = choice(outputs=outputs, parameters={"binary_data_output": True})
    assert chosen == OutputChoice(("p", "label"), frozenset({"label"}))


@pytest.mark.parametrize(
    ("request_parts", "field"),
    [
        ({"outputs": [{"name": "q"}]}, "outputs[0].name"),
        ({"outputs": [{"name": "p"}, {"name": "p"}]}, "outputs"),
        (
            {"outputs": [{"name": "p", "parameters": {"classification": 3}}]},
            "outputs[0].parameters.classification",
        ),
        (
            {"outputs": [{"name": "p", "parameters": {"shared_memory_region": "r"}}]},
            "outputs[0].parameters.shared_memory_region",
        ),
        (
            {"outputs": [{"name": "p", "parameters": {"binary_data": 1}}]},
            "outputs[0].parameters.binary_data",
        ),
        ({"parameters": {"binary_data_output": "yes"}}, "parameters.binary_data_output"),
    ],
)
def test_outputs_that_cannot_be_given_are_refused(
    request_parts: dict[str, Any], field: str
) -> None:
    """Unknown or repeated outputs and forms that are not served name their field."""
    with pytest.raises(InvalidInput) as refused:
        choice(**request_parts)
    assert refused.value.field == field


def encode(*outputs: tuple[str, str, np.ndarray], **changes: Any) -> tuple[bytes, int | None]:
    facts: dict[str, Any] = {
        "model_name": "flights",
        "model_version": "2",
        "request_id": None,
        "parameters": {"role": "champion"},
    }
    return encode_response(outputs=outputs, **(facts | changes))


def test_a_json_answer_is_flat_and_complete() -> None:
    """The golden answer: keys, order, shape and flat data."""
    array = np.array([[0.25, 0.1]], dtype="<f4")
    body, json_length = encode(("p", "FP32", array), request_id="a-1")
    assert json_length is None
    assert body == (
        b'{"model_name":"flights","model_version":"2","id":"a-1",'
        b'"parameters":{"role":"champion"},'
        b'"outputs":[{"name":"p","datatype":"FP32","shape":[1,2],"data":[0.25,0.1]}]}'
    )


def test_an_answer_without_a_request_id_has_none() -> None:
    """Only a given id is echoed."""
    assert "id" not in json.loads(encode()[0])


def test_transposed_outputs_are_written_row_by_row() -> None:
    """The layout in memory does not show in JSON or binary."""
    array = np.arange(4, dtype="<i8").reshape(2, 2).T
    assert json.loads(encode(("n", "INT64", array))[0])["outputs"][0]["data"] == [0, 2, 1, 3]
    body, json_length = encode(("n", "INT64", array), binary={"n"})
    assert np.frombuffer(body[json_length:], "<i8").tolist() == [0, 2, 1, 3]


def test_texts_are_json_strings_and_other_bytes_ask_for_binary() -> None:
    """BYTES outputs, as str or bytes, are strings; what is no UTF-8 can go as binary only."""
    texts = np.array(["é", b"b"], dtype=object)
    assert json.loads(encode(("s", "BYTES", texts))[0])["outputs"][0]["data"] == ["é", "b"]
    no_text = np.array([b"\xff"], dtype=object)
    with pytest.raises(InvalidInput, match="binary"):
        encode(("s", "BYTES", no_text))
    body, json_length = encode(("s", "BYTES", no_text), binary={"s"})
    assert body[json_length:] == b"\x01\0\0\0\xff"
