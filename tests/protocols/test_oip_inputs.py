"""Inputs → arrays: what is accepted, and every bad value with its path."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from gateway.core.tensors import TensorSpec
from gateway.errors import InvalidInput
from gateway.protocols.oip_inputs import decode_inputs
from gateway.protocols.oip_request import decode_request

SPECS = {
    "x": TensorSpec("x", "FP32", (-1, 2)),
    "gap": TensorSpec("gap", "FP64", (-1, 2), allow_missing=True),
    "half": TensorSpec("half", "FP16", (-1,)),
    "n": TensorSpec("n", "INT32", (-1,)),
    "big": TensorSpec("big", "INT64", (-1,)),
    "u8": TensorSpec("u8", "UINT8", (-1,)),
    "u64": TensorSpec("u64", "UINT64", (-1,)),
    "b": TensorSpec("b", "BOOL", (-1, 2)),
    "s": TensorSpec("s", "BYTES", (-1,)),
    "k": TensorSpec("k", "INT64", ()),
    "grid": TensorSpec("grid", "FP32", (-1, -1, 2)),
}


def tensor(name: str, data: Any, shape: list[int], **changes: Any) -> dict[str, Any]:
    spec = SPECS.get(name)
    datatype = "FP32" if spec is None else spec.datatype
    return {"name": name, "shape": shape, "datatype": datatype, "data": data} | changes


def decode(*tensors: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    body = json.dumps({"inputs": list(tensors)}).encode()
    return decode_inputs(decode_request(body, None), SPECS, required)


def refusal(*tensors: dict[str, Any], required: tuple[str, ...] = ()) -> tuple[str, str]:
    with pytest.raises(InvalidInput) as refused:
        decode(*tensors, required=required)
    return refused.value.field, str(refused.value)


@pytest.mark.parametrize(
    ("name", "data", "shape"),
    [
        ("x", [1, 2.5, -0.0, 3e-40], [2, 2]),
        ("x", [[1, 2.5], [3, 4]], [2, 2]),
        ("gap", [[None, 2.5]], [1, 2]),
        ("half", [0.1, 65504], [2]),
        ("n", [-(2**31), 2**31 - 1], [2]),
        ("big", [-(2**63), 2**63 - 1, 2**53 + 1], [3]),
        ("u8", [0, 255], [2]),
        ("u64", [2**64 - 1], [1]),
        ("b", [True, False], [1, 2]),
        ("b", [[True, False]], [1, 2]),
        ("k", [7], []),
        ("grid", [[[1, 2], [3, 4], [5, 6]]], [1, 3, 2]),
        ("grid", [[], []], [2, 0, 2]),
    ],
)
def test_json_elements_become_what_numpy_makes_of_them(
    name: str, data: Any, shape: list[int]
) -> None:
    """Flat and nested data give the array that numpy would give for the datatype."""
    array = decode(tensor(name, data, shape))[name]
    dtype = SPECS[name].kind.dtype
    expected = np.array(data, dtype=dtype).reshape(shape)
    assert array.dtype == dtype and not array.flags.writeable
    np.testing.assert_array_equal(array, expected)


def test_strings_become_utf8_bytes() -> None:
    """BYTES elements are bytes, the empty string and zero characters included."""
    array = decode(tensor("s", ["", "é", "a\0"], [3]))["s"]
    assert array.dtype == object and array.tolist() == [b"", "é".encode(), b"a\0"]


def test_a_boolean_beside_other_inputs_changes_none_of_them() -> None:
    """The second way of parsing, which booleans need, reads every datatype alike."""
    others = [
        tensor("x", [[1, 2.5]], [1, 2]),
        tensor("gap", [None, 0.1], [1, 2]),
        tensor("big", [2**53 + 1], [1]),
        tensor("s", ["é"], [1]),
    ]
    alone = decode(*others)
    beside = decode(*others, tensor("b", [True, False], [1, 2]))
    for name, array in alone.items():
        np.testing.assert_array_equal(beside[name], array)
    assert beside["b"].tolist() == [[True, False]]


def raw_json(literal: str, name: str = "x", shape: str = "[1,2]") -> tuple[str, str]:
    datatype = SPECS[name].datatype
    body = (
        f'{{"inputs":[{{"name":"{name}","shape":{shape},"datatype":"{datatype}",'
        f'"data":{literal}}}]}}'
    )
    with pytest.raises(InvalidInput) as refused:
        decode_inputs(decode_request(body.encode(), None), SPECS, ())
    return refused.value.field, str(refused.value)


@pytest.mark.parametrize(
    ("name", "literal", "shape", "field"),
    [
        ("x", '[1,"1"]', "[1,2]", "inputs[0].data[1]"),
        ("x", '[[1,"1"]]', "[1,2]", "inputs[0].data[0][1]"),
        ("x", "[1,true]", "[1,2]", "inputs[0].data[1]"),
        ("x", "[1,null]", "[1,2]", "inputs[0].data[1]"),
        ("x", "[1,{}]", "[1,2]", "inputs[0].data[1]"),
        ("x", "[1,NaN]", "[1,2]", "inputs[0].data[1]"),
        ("x", "[1,-Infinity]", "[1,2]", "inputs[0].data[1]"),
        ("x", "[1,1e999]", "[1,2]", "inputs[0].data[1]"),
        ("x", "[1,1e39]", "[1,2]", "inputs[0].data[1]"),
        ("x", f"[1,{'9' * 60}]", "[1,2]", "inputs[0].data[1]"),
        ("x", f"[1,{'9' * 400}]", "[1,2]", "inputs[0].data[1]"),
        ("x", f"[1,{'9' * 5000}]", "[1,2]", "inputs[0].data[1]"),
        ("x", "[1,[2]]", "[1,2]", "inputs[0].data[1]"),
        ("x", "[[1],2]", "[1,2]", "inputs[0].data"),
        ("x", "[[1],[2]]", "[1,2]", "inputs[0].data"),
        ("x", "[[1,2],[3,4]]", "[1,2]", "inputs[0].data"),
        ("x", "[[[1,2]]]", "[1,2]", "inputs[0].data"),
        ("x", "[" * 9 + "1" + "]" * 9, "[1,2]", "inputs[0].data[0][0][0][0][0][0][0][0]"),
        ("x", "[" * 500 + "]" * 500, "[1,2]", "inputs[0].data[0][0][0][0][0][0][0][0]"),
        ("x", "[" * 5000 + "]" * 5000, "[1,2]", "body"),
        ("x", "[1]", "[1,2]", "inputs[0].data"),
        ("x", "[1,2,3]", "[1,2]", "inputs[0].data"),
        ("x", "[1]", "[1000000000,2]", "inputs[0].data"),
        ("x", "1", "[1,2]", "inputs[0].data"),
        ("x", "null", "[1,2]", "inputs[0].data"),
        ("x", '"1,2"', "[1,2]", "inputs[0].data"),
        ("x", "[1]", "[0,2]", "inputs[0].data"),
        ("x", "[1,2]", "[2]", "inputs[0].shape"),
        ("x", "[1,2,3]", "[1,3]", "inputs[0].shape"),
        ("x", "[1,2]", "[]", "inputs[0].shape"),
        ("x", "[1,2]", "[-1,2]", "inputs[0].shape[0]"),
        ("grid", "[[],[],[]]", "[2,0,2]", "inputs[0].data"),
        ("grid", "[]", f"[1,0,{2**31 - 1}]", "inputs[0].shape"),
        ("gap", "[true,null]", "[1,2]", "inputs[0].data[0]"),
        ("gap", '[null,"a"]', "[1,2]", "inputs[0].data[1]"),
        ("half", "[1e5]", "[1]", "inputs[0].data[0]"),
        ("n", "[1.5]", "[1]", "inputs[0].data[0]"),
        ("n", "[1.0]", "[1]", "inputs[0].data[0]"),
        ("n", "[2147483648]", "[1]", "inputs[0].data[0]"),
        ("n", "[null]", "[1]", "inputs[0].data[0]"),
        ("n", "[true]", "[1]", "inputs[0].data[0]"),
        ("big", "[9223372036854775808]", "[1]", "inputs[0].data[0]"),
        ("u8", "[256]", "[1]", "inputs[0].data[0]"),
        ("u64", "[-1]", "[1]", "inputs[0].data[0]"),
        ("b", "[1,0]", "[1,2]", "inputs[0].data[0]"),
        ("b", "[true,0]", "[1,2]", "inputs[0].data[1]"),
        ("b", '[true,"x"]', "[1,2]", "inputs[0].data[1]"),
        ("s", '["a"]', "[2]", "inputs[0].data"),
        ("s", '["a",1]', "[2]", "inputs[0].data"),
        ("s", '["a",null]', "[2]", "inputs[0].data"),
        ("s", '["a",true]', "[2]", "inputs[0].data[1]"),
        ("s", '["\\udc00abcdef"]', "[1]", "body"),
        ("k", "[1,2]", "[]", "inputs[0].data"),
    ],
)
def test_a_bad_element_is_refused_with_its_path(
    name: str, literal: str, shape: str, field: str
) -> None:
    """No coercion, no overflow, no missing value that was not declared."""
    assert raw_json(literal, name, shape)[0] == field


@pytest.mark.parametrize(
    ("name", "literal", "shape", "advice"),
    [
        ("b", "[1,0]", "[1,2]", "send true or false for BOOL, not a number"),
        ("n", "[1.5]", "[1]", "send an integer for INT32"),
        ("n", "[2147483648]", "[1]", "out of the range of INT32"),
        ("x", '[1,"1"]', "[1,2]", "send a number for FP32, not a string"),
        ("x", "[1,null]", "[1,2]", "allow_missing"),
        ("x", "[1]", "[1,2]", "asks for 2 elements, 1 were sent"),
    ],
)
def test_a_refusal_says_what_to_send(name: str, literal: str, shape: str, advice: str) -> None:
    """The message tells what was found and what to do."""
    assert advice in raw_json(literal, name, shape)[1]


def test_bad_text_beside_a_boolean_is_refused() -> None:
    """Strings are looked into even where the data were cut out first."""
    body = (
        b'{"inputs":[{"name":"b","shape":[1,2],"datatype":"BOOL","data":[true,true]},'
        b'{"name":"s","shape":[1],"datatype":"BYTES","data":["\xff"]}]}'
    )
    with pytest.raises(InvalidInput) as refused:
        decode_inputs(decode_request(body, None), SPECS, ())
    assert refused.value.field == "inputs[1].data"


def test_names_and_rows_must_fit_together() -> None:
    """Unknown, repeated and missing inputs and unequal rows are refused."""
    x, n = tensor("x", [1, 2], [1, 2]), tensor("n", [1, 2], [2])
    assert refusal(x, tensor("y", [1], [1]))[0] == "inputs[1].name"
    assert refusal(x, x)[0] == "inputs[1].name"
    assert refusal(x, required=("x", "n")) == ("inputs", "inputs: send 'n' as well")
    assert refusal(x, n)[0] == "inputs[1].shape[0]"
    assert refusal(required=("x",))[0] == "inputs"
    assert decode() == {}


def test_a_wrong_datatype_is_refused() -> None:
    """The datatype must be the one that the model reads."""
    sent = tensor("x", [1, 2], [1, 2], datatype="FP64")
    assert refusal(sent)[0] == "inputs[0].datatype"


def test_data_that_are_not_there_are_explained() -> None:
    """Absent data, shared memory and a forgotten header each say what to do."""
    bare = tensor("x", None, [1, 2])
    del bare["data"]
    assert refusal(bare)[0] == "inputs[0].data"
    shared = bare | {"parameters": {"shared_memory_region": "r"}}
    assert "shared memory" in refusal(shared)[1]
    headless = bare | {"parameters": {"binary_data_size": 8}}
    assert "Inference-Header-Content-Length" in refusal(headless)[1]


def binary(name: str, array: np.ndarray, raw: bytes | None = None) -> dict[str, np.ndarray]:
    raw = array.tobytes() if raw is None else raw
    sent = tensor(name, None, list(array.shape), parameters={"binary_data_size": len(raw)})
    del sent["data"]
    head = json.dumps({"inputs": [sent]}).encode()
    return decode_inputs(decode_request(head + raw, len(head)), SPECS, ())


def test_binary_elements_are_aligned_whatever_the_length_of_the_json() -> None:
    """A tensor that begins anywhere in the body becomes an aligned array."""
    array = binary("gap", np.array([[1.0, 2.0]]))["gap"]
    assert array.flags.aligned and array.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_binary_nan_and_infinity_are_refused(bad: float) -> None:
    """What JSON cannot say does not slip in as binary."""
    with pytest.raises(InvalidInput) as refused:
        binary("x", np.array([[1, bad]], dtype="<f4"))
    assert refused.value.field == "inputs[0].data"


def test_binary_nan_passes_where_values_may_be_missing_but_infinity_never() -> None:
    """allow_missing lets NaN through, bit for bit, and nothing else."""
    missing = np.array([[np.nan, 1.0]])
    assert binary("gap", missing)["gap"].tobytes() == missing.tobytes()
    with pytest.raises(InvalidInput, match="element 1 is an infinity"):
        binary("gap", np.array([[np.nan, np.inf]]))


def test_binary_of_the_wrong_length_is_refused() -> None:
    """The bytes must be those of the shape, no more and no fewer."""
    for raw in (b"\0" * 7, b"\0" * 9, b""):
        with pytest.raises(InvalidInput) as refused:
            binary("x", np.zeros((1, 2), dtype="<f4"), raw)
        assert refused.value.field == "inputs[0].data"


def test_a_declared_gigabyte_costs_nothing() -> None:
    """Sizes are compared with what was sent before anything is allocated."""
    import tracemalloc

    tracemalloc.start()
    try:
        raw_json("[1,2]", shape="[134217728,2]")
        with pytest.raises(InvalidInput):
            binary("x", np.broadcast_to(np.float32(0), (134_217_728, 2)), b"\0" * 8)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_000_000
