"""Joining and splitting: what went in comes out, whatever the datatype."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.records import TensorRecord
from gateway.core.tensors import DATATYPES, from_raw, to_raw
from gateway.shadow.batches import join, kind_of, split


def record(name: str, datatype: str, array: np.ndarray[Any, Any]) -> TensorRecord:
    return TensorRecord(name, datatype, array.shape, to_raw(array))


def example(datatype: str, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Some values; texts of all lengths, also none."""
    random = np.random.default_rng(seed)
    if datatype == "BYTES":
        texts = np.empty(int(np.prod(shape)), dtype=object)
        texts[:] = [
            bytes(random.integers(0, 256, size=n % 5, dtype=np.uint8)) for n in range(texts.size)
        ]
        return texts.reshape(shape)
    values = random.integers(0, 2 if datatype == "BOOL" else 100, size=shape)
    return values.astype(DATATYPES[datatype].dtype)


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
@given(
    rows=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    trailing=st.lists(st.integers(0, 3), max_size=2),
)
def test_splitting_undoes_joining(datatype: str, rows: list[int], trailing: list[int]) -> None:
    """Each request gets its own bytes and shape back, and the batch is their concatenation."""
    arrays = [example(datatype, (n, *trailing), seed) for seed, n in enumerate(rows)]
    requests = [[record("x", datatype, array)] for array in arrays]
    (joined,) = join(requests)
    whole = np.concatenate(arrays)
    assert joined.shape == whole.shape
    assert (from_raw(datatype, joined.shape, joined.data) == whole).all()
    assert split([joined], rows) == requests


def test_several_tensors_stay_together() -> None:
    """Inputs and outputs are joined and split by their place."""
    requests = [
        [
            record("a", "FP32", np.full((n, 2), n, "f4")),
            record("b", "BYTES", example("BYTES", (n,), n)),
        ]
        for n in (2, 1, 3)
    ]
    joined = join(requests)
    assert [one.name for one in joined] == ["a", "b"]
    assert split(joined, [2, 1, 3]) == requests


def test_one_request_is_left_as_it_is() -> None:
    """A batch of one needs no rows at all: its tensors may have any shape."""
    alone = [record("x", "FP32", np.zeros((), "f4"))]
    assert join([alone]) == alone
    assert split(alone, [3]) == [alone]


@pytest.mark.parametrize("shape", [(4,), (6, 1), (), (1,)])
def test_rows_that_do_not_add_up_are_noticed(shape: tuple[int, ...]) -> None:
    """An output with another number of rows than its batch is nobody's answer."""
    with pytest.raises(ValueError, match="rows"):
        split([record("y", "FP32", np.zeros(shape, "f4"))], [2, 3])


def test_only_requests_of_one_kind_are_joined() -> None:
    """Names, datatypes and every dimension but the first say what may be joined."""
    base = record("x", "FP32", np.zeros((2, 3), "f4"))
    assert kind_of([base]) == kind_of([record("x", "FP32", np.zeros((5, 3), "f4"))])
    others = [
        record("z", "FP32", np.zeros((2, 3), "f4")),
        record("x", "FP64", np.zeros((2, 3), "f8")),
        record("x", "FP32", np.zeros((2, 4), "f4")),
    ]
    assert all(kind_of([base]) != kind_of([other]) for other in others)
