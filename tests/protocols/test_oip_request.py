"""Taking requests apart: JSON, binary shares, and every way in which they can be wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import InvalidInput
from gateway.protocols.oip_request import decode_request


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]} | changes


def request(**changes: Any) -> bytes:
    return json.dumps({"inputs": [tensor()]} | changes).encode()


def refusal(body: bytes, json_length: int | None = None) -> tuple[str, str]:
    with pytest.raises(InvalidInput) as refused:
        decode_request(body, json_length)
    return refused.value.field, str(refused.value)


def test_a_request_is_taken_apart() -> None:
    """Id, parameters, inputs and outputs arrive as they were sent; unknown keys are ignored."""
    body = request(
        id="a-1",
        parameters={"unit": "u", "attributes": {"k": True}},
        outputs=[{"name": "p", "parameters": {"binary_data": True}}],
        inputs=[tensor(parameters={"content_type": "np"}, note=1)],
        later={"deep": [[[]]]},
    )
    parsed = decode_request(body, None)
    assert parsed.id == "a-1"
    assert parsed.parameters == {"unit": "u", "attributes": {"k": True}}
    assert [(x.name, x.shape, x.datatype) for x in parsed.inputs] == [("x", (1, 2), "FP32")]
    assert parsed.inputs[0].parameters == {"content_type": "np"}
    assert parsed.outputs is not None and parsed.outputs[0].parameters == {"binary_data": True}


def test_the_last_of_duplicate_keys_wins() -> None:
    """A repeated JSON key replaces the one before, as documented."""
    assert decode_request(b'{"id":"a","inputs":[],"id":"b"}', None).id == "b"


def test_binary_shares_go_to_their_inputs_in_order() -> None:
    """Each input takes its bytes; inputs with JSON data in between take none."""
    shares = [{"binary_data_size": 3}, None, {"binary_data_size": 0}, {"binary_data_size": 2}]
    inputs = [
        tensor(name=str(i), parameters=share) | ({} if share is None else {"data": None})
        for i, share in enumerate(shares)
    ]
    for sent in inputs:
        if sent["data"] is None:
            del sent["data"]
    head = json.dumps({"inputs": inputs}).encode()
    parsed = decode_request(head + b"abcde", len(head))
    assert [x.data for x in parsed.inputs] == [b"abc", [1, 2], b"", b"de"]


def binary(size: Any, tail: bytes, **changes: Any) -> tuple[bytes, int]:
    sent = tensor(parameters={"binary_data_size": size}) | changes
    if "data" not in changes:
        del sent["data"]
    head = json.dumps({"inputs": [sent]}).encode()
    return head + tail, len(head)


@pytest.mark.parametrize(
    ("size", "tail", "changes", "field"),
    [
        (8, b"1234567", {}, "inputs[0].parameters.binary_data_size"),
        (2**70, b"1234567", {}, "inputs[0].parameters.binary_data_size"),
        (-1, b"", {}, "inputs[0].parameters.binary_data_size"),
        (True, b"1", {}, "inputs[0].parameters.binary_data_size"),
        ("8", b"12345678", {}, "inputs[0].parameters.binary_data_size"),
        (8, b"123456789", {}, "body"),
        (8, b"12345678", {"data": [1, 2]}, "inputs[0].data"),
    ],
)
def test_binary_shares_that_do_not_add_up_are_refused(
    size: Any, tail: bytes, changes: dict[str, Any], field: str
) -> None:
    """Truncated, surplus, negative and mistyped sizes are refused with their path."""
    assert refusal(*binary(size, tail, **changes))[0] == field


@pytest.mark.parametrize("json_length", [0, -1, 10_000])
def test_a_json_length_outside_the_body_is_refused(json_length: int) -> None:
    """The header must point into the body."""
    assert refusal(request(), json_length)[0] == "Inference-Header-Content-Length"


def test_a_json_length_inside_the_json_is_refused() -> None:
    """A header that is too short cuts the JSON, which is then malformed."""
    assert refusal(request(), 20)[0] == "body"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b"{", "body"),
        (b"{}", "body"),
        (request() + b"x", "body"),
        (b'{"inputs":[],"parameters":{"a":"\xff"}}', "body"),
        (b'{"inputs":[],"parameters":{"a":"\\udc00abcdef"}}', "body"),
        (b'{"inputs":[{"data":' + b"[" * 100_000, "body"),
        (b'{"zzz":' + b"[" * 100_000, "body"),
        (b'{"zzz":' + b'{"a":' * 100_000, "body"),
        (request(inputs=None), "inputs"),
        (request(inputs={}), "inputs"),
        (request(inputs=[1]), "inputs[0]"),
        (request(inputs=[{}]), "inputs[0]"),
        (request(inputs=[tensor()] * 1025), "inputs"),
        (request(inputs=[tensor(), tensor(name=1)]), "inputs[1].name"),
        (request(inputs=[tensor(name="x" * 257)]), "inputs[0].name"),
        (request(inputs=[tensor(shape=[1, -2])]), "inputs[0].shape[1]"),
        (request(inputs=[tensor(shape=[1, 2**40])]), "inputs[0].shape[1]"),
        (request(inputs=[tensor(shape=[1.0, 2])]), "inputs[0].shape[0]"),
        (request(inputs=[tensor(shape=["1", 2])]), "inputs[0].shape[0]"),
        (request(inputs=[tensor(shape=[True, 2])]), "inputs[0].shape[0]"),
        (request(inputs=[tensor(shape=[1] * 33)]), "inputs[0].shape"),
        (request(inputs=[tensor(shape=2)]), "inputs[0].shape"),
        (request(inputs=[tensor(datatype=32)]), "inputs[0].datatype"),
        (request(inputs=[tensor(parameters=[])]), "inputs[0].parameters"),
        (request(id=7), "id"),
        (request(id="x" * 257), "id"),
        (request(id="a\nb"), "id"),
        (request(id="a\u202eb"), "id"),
        (request(parameters=[]), "parameters"),
        (request(parameters={"a": [[[[[[1]]]]]]}), "parameters[...][0][0][0][0]"),
        (request(outputs={}), "outputs"),
        (request(outputs=[{"name": 1}]), "outputs[0].name"),
        (request(outputs=[{"name": "p"}] * 1025), "outputs"),
    ],
)
def test_what_cannot_be_parsed_is_refused_with_its_path(body: bytes, field: str) -> None:
    """Malformed, mistyped, overlong and too deeply nested requests name their field."""
    assert refusal(body)[0] == field


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_words_that_are_no_json_numbers_are_found(word: str) -> None:
    """The element is named, and the message says what to send instead."""
    data = f'{{"inputs":[{{"name":"x","shape":[3],"datatype":"FP32","data":[1,[true],{word}]}}]}}'
    field, message = refusal(data.encode())
    assert field == "inputs[0].data[2]"
    assert word in message and "null" in message


def test_a_second_fault_does_not_hide_a_nan() -> None:
    """Where the element cannot be located, the body is named and the word still said."""
    field, message = refusal(b'{"unknown":NaN,"inputs":[')
    assert field == "body" and "NaN" in message
