"""Datatypes, raw bytes and row counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.utils import serialize_byte_tensor, triton_to_np_dtype

from gateway.core.tensors import (
    DATATYPES,
    Signature,
    TensorSpec,
    batch_rows,
    datatype_of_onnx,
    first_nonfinite,
    from_raw,
    to_raw,
)
from gateway.errors import InvalidInput, InvalidModel

FIXED = sorted(name for name in DATATYPES if name != "BYTES")
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@pytest.mark.parametrize("name", FIXED)
def test_datatypes_are_those_of_the_public_client(name: str) -> None:
    """Each datatype means the same numpy type to tritonclient and to us."""
    assert DATATYPES[name].dtype == np.dtype(triton_to_np_dtype(name))


def test_onnx_types_map_to_datatypes() -> None:
    """onnxruntime's names are found, and one that is not served is refused by name."""
    assert datatype_of_onnx("tensor(float)") == "FP32"
    assert datatype_of_onnx("tensor(string)") == "BYTES"
    assert {datatype_of_onnx(row.onnx_type) for row in DATATYPES.values()} == set(DATATYPES)
    with pytest.raises(InvalidModel, match="bfloat16"):
        datatype_of_onnx("tensor(bfloat16)")


@given(st.data())
def test_raw_bytes_round_trip_bit_for_bit(data: st.DataObject) -> None:
    """Raw bytes give back the same bits: NaN payloads, signed zeros, any shape."""
    name = data.draw(st.sampled_from(FIXED))
    array = data.draw(hnp.arrays(DATATYPES[name].dtype, SHAPES))
    raw = to_raw(array)
    back = from_raw(name, array.shape, raw)
    assert raw == array.tobytes()
    assert back.shape == array.shape and back.dtype == array.dtype
    assert to_raw(back) == raw


@given(hnp.arrays(np.dtype("O"), SHAPES, elements=st.binary(max_size=9)))
def test_bytes_round_trip_as_the_public_client_writes_them(array: np.ndarray) -> None:
    """BYTES elements, trailing zero bytes included, survive and match tritonclient's form."""
    raw = to_raw(array)
    assert raw == (serialize_byte_tensor(array).item() if array.size else b"")
    back = from_raw("BYTES", array.shape, raw)
    assert back.shape == array.shape and back.tolist() == array.tolist()


def test_text_is_written_as_utf8() -> None:
    """String outputs of a model are kept as UTF-8 bytes."""
    assert to_raw(np.array(["é"], dtype=object)) == b"\x02\0\0\0\xc3\xa9"


def test_big_endian_and_transposed_arrays_are_written_little_endian_row_by_row() -> None:
    """The layout in memory does not show in the raw bytes."""
    array = np.arange(6, dtype=">i4").reshape(2, 3).T
    assert to_raw(array) == np.array([0, 3, 1, 4, 2, 5], dtype="<i4").tobytes()


@pytest.mark.parametrize(
    ("datatype", "shape", "raw"),
    [
        ("FP32", (2,), b"\0" * 7),
        ("FP32", (2,), b"\0" * 9),
        ("FP32", (2**40, 2**40), b"\0" * 8),
        ("FP32", (0, 2**31 - 1, 2**31 - 1, 2**31 - 1), b""),
        ("FP32", (-1, -1), b"\0" * 4),
        ("FP32", (1,) * 65, b"\0" * 4),
        ("BOOL", (2,), b"\x01\x02"),
        ("BYTES", (2**40,), b"\0" * 8),
        ("BYTES", (0, 2**31 - 1, 2**31 - 1, 2**31 - 1), b""),
        ("BYTES", (1,), b"\xff\xff\xff\xffa"),
        ("BYTES", (2,), b"\x04\0\0\0abcd"),
        ("BYTES", (2,), b"\x02\0\0\0ab\0\0"),
        ("BYTES", (1,), b"\x01\0\0\0ab"),
        ("BYTES", (-1,), b""),
    ],
)
def test_raw_bytes_that_do_not_fit_are_refused(
    datatype: str, shape: tuple[int, ...], raw: bytes
) -> None:
    """Wrong lengths and impossible shapes are refused before anything is allocated."""
    with pytest.raises(InvalidInput):
        from_raw(datatype, shape, raw)


def test_the_bytes_element_that_is_cut_is_named() -> None:
    """The path leads to the element in which, or before which, the bytes end."""
    for raw in (b"\x01\0\0\0a\x05\0\0\0abcd", b"\x01\0\0\0a\x05\0", b"\x01\0\0\0a"):
        with pytest.raises(InvalidInput) as refused:
            from_raw("BYTES", (2,), raw)
        assert refused.value.field == "data[1]"


def test_arrays_over_raw_bytes_are_read_only() -> None:
    """What was sent cannot be changed after it was recorded."""
    assert not from_raw("FP32", (1,), b"\0" * 4).flags.writeable
    assert not from_raw("BYTES", (1,), b"\0" * 4).flags.writeable


@pytest.mark.parametrize(
    ("shapes", "rows"),
    [
        ([(-1, 8)], 5),
        ([(-1, 8), (-1,)], 5),
        ([(-1, 8), (3,)], 1),
        ([(5, 8)], 1),
        ([(5, -1)], 1),
        ([()], 1),
        ([], 1),
    ],
)
def test_rows_are_counted_only_where_every_input_is_batched(
    shapes: list[tuple[int, ...]], rows: int
) -> None:
    """Dimension 0 counts rows if it is dynamic in all inputs, of which there is at least one."""
    specs = tuple(TensorSpec(f"x{i}", "FP32", shape) for i, shape in enumerate(shapes))
    arrays = {spec.name: np.zeros([5 if dim < 0 else dim for dim in spec.shape]) for spec in specs}
    assert batch_rows(Signature(specs, ()), arrays) == rows


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_nonfinite_element_is_found(dtype: str, bad: float) -> None:
    """The flat index of the first NaN or infinity, in any shape."""
    array = np.zeros((3, 4), dtype=dtype)
    assert first_nonfinite(array) is None
    array[2, 3] = bad
    assert first_nonfinite(array) == 11
    array[1, 1] = bad
    assert first_nonfinite(array) == 5


def test_whole_numbers_and_texts_are_always_finite() -> None:
    """Only floating-point arrays can hold what is no number."""
    assert first_nonfinite(np.array([1, 2])) is None
    assert first_nonfinite(np.array([b"a"], dtype=object)) is None
