"""The codec against the public client in both directions, and against arbitrary bytes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult

from gateway.core.tensors import DATATYPES, Array, Signature, TensorSpec
from gateway.errors import InvalidInput
from gateway.protocols.oip_codec import (
    decode_inputs,
    decode_request,
    encode_response,
    request_context,
    requested_outputs,
)

#: Scalars and tensors without elements are tensors too.
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
ALPHABET = 'a1é€😀\0\n"\\/\u2028'
TEXT = st.text(ALPHABET, max_size=6)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, Array]:
    """A datatype and a finite array of it; BYTES hold UTF-8, so that JSON can carry them."""
    name = draw(st.sampled_from(sorted(DATATYPES)))
    if name == "BYTES":
        return name, draw(hnp.arrays("O", SHAPES, elements=TEXT.map(str.encode)))
    dtype = DATATYPES[name].dtype
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    return name, draw(hnp.arrays(dtype, SHAPES, elements=hnp.from_dtype(dtype, **finite)))


def assert_same(actual: Array, expected: Array) -> None:
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    assert actual.tolist() == expected.tolist()
    if expected.dtype != object:
        assert actual.tobytes() == expected.tobytes()


@given(st.lists(st.tuples(tensors(), st.booleans()), min_size=1, max_size=3))
def test_requests_of_the_public_client_are_read_bit_for_bit(
    sent: list[tuple[tuple[str, Array], bool]],
) -> None:
    """Any mixture of JSON and binary inputs that tritonclient writes is read as it was meant."""
    inputs, specs = [], {}
    for index, ((datatype, array), as_binary) in enumerate(sent):
        one = InferInput(f"x{index}", list(array.shape), datatype)
        inputs.append(one.set_data_from_numpy(array, binary_data=as_binary))
        # Every dimension is fixed, so that inputs of unequal length may stand beside each other.
        specs[f"x{index}"] = TensorSpec(f"x{index}", datatype, array.shape)
    body, json_length = InferenceServerClient.generate_request_body(inputs, request_id="7")
    request = decode_request(body, json_length)
    arrays = decode_inputs(request, specs, specs.keys())
    assert request.id == "7"
    for index, ((_, array), _) in enumerate(sent):
        assert_same(arrays[f"x{index}"], array)


@given(tensors())
def test_nested_and_flat_json_are_the_same_tensor(sent: tuple[str, Array]) -> None:
    """Nesting by the shape changes nothing."""
    datatype, array = sent
    texts = array if datatype != "BYTES" else np.vectorize(bytes.decode, otypes=["O"])(array)
    spec = TensorSpec("x", datatype, array.shape)
    for data in ([texts.tolist()] if array.ndim else []) + [texts.ravel().tolist()]:
        one = {"name": "x", "shape": array.shape, "datatype": datatype, "data": data}
        body = json.dumps({"inputs": [one]}).encode()
        assert_same(decode_inputs(decode_request(body, None), {"x": spec}, ["x"])["x"], array)


@given(st.lists(st.tuples(tensors(), st.booleans()), min_size=1, max_size=3))
def test_answers_are_read_by_the_public_client_bit_for_bit(
    sent: list[tuple[tuple[str, Array], bool]],
) -> None:
    """Any mixture of JSON and binary outputs arrives in tritonclient as it was."""
    outputs = [(f"y{i}", datatype, array) for i, ((datatype, array), _) in enumerate(sent)]
    body, json_length = encode_response(
        model_name="m",
        model_version="1",
        request_id="7",
        parameters={"role": "champion"},
        outputs=outputs,
        binary={f"y{i}" for i, (_, as_binary) in enumerate(sent) if as_binary},
    )
    assert (json_length is not None) == any(as_binary for _, as_binary in sent)
    result = InferResult.from_response_body(body, header_length=json_length)
    assert result.get_response()["id"] == "7"
    for (name, datatype, array), (_, as_binary) in zip(outputs, sent, strict=True):
        read = result.as_numpy(name)
        if datatype == "BYTES" and not as_binary:
            read = np.vectorize(str.encode, otypes=["O"])(read)
        assert_same(read, array)


@st.composite
def any_bits(draw: st.DrawFn) -> tuple[str, Array]:
    """Floating-point tensors of any bits: NaN with a payload, -0.0, subnormal numbers."""
    name = draw(st.sampled_from(["FP16", "FP32", "FP64"]))
    dtype = DATATYPES[name].dtype
    shape = draw(SHAPES)
    size = int(np.prod(shape)) * dtype.itemsize
    odd = st.sampled_from([0x00, 0x01, 0x7F, 0x7C, 0x80, 0xF0, 0xF8, 0xFF]) | st.integers(0, 255)
    raw = bytes(draw(st.lists(odd, min_size=size, max_size=size)))
    return name, np.frombuffer(raw, dtype).reshape(shape)


@given(any_bits())
def test_odd_bits_arrive_as_they_were_sent(sent: tuple[str, Array]) -> None:
    """Both ways as binary, where the input may be missing; infinities are refused, not changed."""
    datatype, array = sent
    one = InferInput("x", list(array.shape), datatype).set_data_from_numpy(array)
    body, json_length = InferenceServerClient.generate_request_body([one])
    spec = TensorSpec("x", datatype, array.shape, allow_missing=True)
    if np.isinf(array).any():
        with pytest.raises(InvalidInput, match="is an infinity"):
            decode_inputs(decode_request(body, json_length), {"x": spec}, ["x"])
    else:
        read = decode_inputs(decode_request(body, json_length), {"x": spec}, ["x"])["x"]
        assert (read.dtype, read.shape, read.tobytes()) == (
            array.dtype,
            array.shape,
            array.tobytes(),
        )
    written, length = encode_response(
        model_name="m",
        model_version="1",
        request_id=None,
        parameters={},
        outputs=[("y", datatype, array)],
        binary={"y"},
    )
    given_back = InferResult.from_response_body(written, header_length=length).as_numpy("y")
    assert (given_back.shape, given_back.tobytes()) == (array.shape, array.tobytes())


@given(any_bits())
def test_finite_numbers_survive_json_bit_for_bit(sent: tuple[str, Array]) -> None:
    """Subnormal numbers and -0.0 as text, both ways; a client that writes JSON loses nothing."""
    datatype, array = sent
    array = np.where(np.isfinite(array), array, np.array(-0.0, array.dtype))
    spec = TensorSpec("x", datatype, array.shape)
    one = {"name": "x", "shape": array.shape, "datatype": datatype, "data": array.ravel().tolist()}
    body = json.dumps({"inputs": [one]}).encode()
    assert_same(decode_inputs(decode_request(body, None), {"x": spec}, ["x"])["x"], array)
    written, _ = encode_response(
        model_name="m",
        model_version="1",
        request_id=None,
        parameters={},
        outputs=[("y", datatype, array)],
    )
    assert_same(InferResult.from_response_body(written).as_numpy("y"), array)


@given(
    st.lists(
        st.tuples(st.sampled_from("pqr"), st.none() | st.booleans()), unique_by=lambda o: o[0]
    ),
    st.none() | st.booleans(),
)
def test_each_output_comes_in_the_form_that_was_asked(
    wanted: list[tuple[str, bool | None]],
    throughout: bool | None,  # noqa: FBT001 - drawn
) -> None:
    """What an output says of itself counts; what it does not say, the request says for all."""
    signature = Signature((), tuple(TensorSpec(name, "FP32", (-1,)) for name in "pqr"))
    outputs = [
        {"name": name} | ({} if binary is None else {"parameters": {"binary_data": binary}})
        for name, binary in wanted
    ]
    document: dict[str, Any] = {"inputs": [], "outputs": outputs}
    if throughout is not None:
        document["parameters"] = {"binary_data_output": throughout}
    request = decode_request(json.dumps(document).encode(), None)
    choice = requested_outputs(request, signature)
    named = wanted or [(name, None) for name in "pqr"]
    assert choice.names == tuple(name for name, _ in named)
    expected = {name for name, binary in named if (throughout if binary is None else binary)}
    assert choice.binary == expected


@pytest.mark.parametrize("as_binary", [True, False])
def test_the_clients_wishes_for_outputs_are_understood(as_binary: bool) -> None:  # noqa: FBT001
    """tritonclient asks per output, or for binary outputs throughout if it names none."""
    one = InferInput("x", [1], "FP32").set_data_from_numpy(np.zeros(1, dtype="<f4"))
    signature = Signature((), (TensorSpec("p", "FP32", (-1,)), TensorSpec("q", "FP32", (-1,))))

    def chosen(outputs: list[InferRequestedOutput] | None) -> tuple[tuple[str, ...], Any]:
        body, json_length = InferenceServerClient.generate_request_body([one], outputs=outputs)
        choice = requested_outputs(decode_request(body, json_length), signature)
        return choice.names, choice.binary

    assert chosen(None) == (("p", "q"), {"p", "q"})
    wanted = [InferRequestedOutput("q", binary_data=as_binary)]
    assert chosen(wanted) == (("q",), {"q"} if as_binary else set())


SPECS = {
    "x": TensorSpec("x", "FP32", (-1, 2), allow_missing=True),
    "n": TensorSpec("n", "INT8", (-1,)),
    "b": TensorSpec("b", "BOOL", (-1,)),
    "s": TensorSpec("s", "BYTES", (-1, -1, -1)),
}
SIGNATURE = Signature(tuple(SPECS.values()), (TensorSpec("p", "FP32", (-1,)),))


def serve(body: bytes, json_length: int | None) -> None:
    """All of decoding; whatever is wrong must come out as InvalidInput."""
    try:
        request = decode_request(body, json_length)
        request_context(request.parameters)
        requested_outputs(request, SIGNATURE)
        decode_inputs(request, SPECS, ["x"])
    except InvalidInput as refused:
        assert str(refused).startswith(refused.field)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(),
    st.text(ALPHABET, max_size=4),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(ALPHABET, max_size=3), inner)
    ),
    max_leaves=8,
)


def mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(usual, usual, usual, JSON)


PARAMETERS = mostly(
    st.dictionaries(
        st.sampled_from(
            [
                *("binary_data_size", "binary_data", "binary_data_output"),
                *("shared_memory_region", "classification"),
                *("unit", "occurred_at", "entity", "attributes"),
            ]
        ),
        st.integers(-1, 9) | JSON,
    )
)
INPUT = st.fixed_dictionaries(
    {
        "name": mostly(st.sampled_from(sorted(SPECS))),
        "shape": mostly(st.lists(mostly(st.sampled_from([0, 1, 2, 2**31 - 1])), max_size=4)),
        "datatype": mostly(st.sampled_from(["FP32", "INT8", "BOOL", "BYTES"])),
    },
    optional={"data": mostly(st.lists(JSON, max_size=4)), "parameters": PARAMETERS},
)
REQUEST = st.fixed_dictionaries(
    {"inputs": mostly(st.lists(mostly(INPUT), max_size=3))},
    optional={
        "id": JSON,
        "parameters": PARAMETERS,
        "outputs": mostly(st.lists(mostly(st.fixed_dictionaries({"name": st.just("p")})))),
    },
)


@settings(max_examples=400)
@given(REQUEST, st.binary(max_size=12), st.integers(-2, 2) | st.none())
def test_no_request_however_odd_raises_anything_but_invalid_input(
    sent: Any, tail: bytes, shift: int | None
) -> None:
    """Well-formed JSON of the wrong kind, with wrong binary tails and wrong header lengths."""
    head = json.dumps(sent).encode()
    serve(head + tail, None if shift is None else len(head) + shift)


@settings(max_examples=300)
@given(st.binary(max_size=40) | REQUEST.map(lambda sent: json.dumps(sent).encode()), st.data())
def test_no_bytes_raise_anything_but_invalid_input(body: bytes, data: st.DataObject) -> None:
    """Random bytes, and requests that were cut or had a byte changed."""
    at = data.draw(st.integers(0, len(body)))
    serve(body, None)
    serve(body[:at], at)
    serve(body[:at] + data.draw(st.binary(max_size=2)) + body[at + 1 :], None)
