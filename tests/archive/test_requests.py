"""Requests that come back from the archive are those that went in, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gateway.archive.replay import Wanted, eligible
from gateway.archive.requests import requests_of, require_readable, whole_predictions
from gateway.archive.tables import ArchiveReader
from gateway.archive.writer import ArchiveWriter
from gateway.core.records import TensorRecord
from gateway.core.tensors import TensorSpec
from gateway.errors import Refused
from tests.archive.records import prediction, tensor

WANTED = Wanted(endpoint="flights", digest="d1", event_time="accepted")


def _back(
    folder: Path, requests: list[tuple[int, list[TensorRecord]]], *specs: TensorSpec, rows: int = 2
) -> list[tuple[int, list[TensorRecord]]]:
    """(rows, inputs) of each request, after they were archived and read in small batches."""
    writer = ArchiveWriter(folder)
    for number, (count, inputs) in enumerate(requests, start=1):
        writer.append("w", number, prediction(f"{number:032x}", rows=count, inputs=inputs))
    writer.flush()
    with ArchiveReader(folder) as reader:
        (whole,) = eligible(reader, WANTED, after_id="")
        batches = [whole.slice(first, rows) for first in range(0, whole.num_rows, rows)]
        found = [one for part in whole_predictions(batches) for one in requests_of(part, specs)]
    return [(one.rows, one.inputs) for one in found]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "i8", "u1", "?"])
@pytest.mark.parametrize("trailing", [(), (1,), (3,), (2, 2)])
def test_numbers_keep_every_bit(tmp_path: Path, dtype: str, trailing: tuple[int, ...]) -> None:
    """Requests of one to five rows, whatever dimensions a row has."""
    random = np.random.default_rng(3)
    arrays = [random.normal(size=(rows, *trailing)).astype(dtype) for rows in (1, 5, 2, 1)]
    requests = [(len(array), [tensor("x", array)]) for array in arrays]
    spec = TensorSpec("x", requests[0][1][0].datatype, (-1, *trailing))
    assert _back(tmp_path, requests, spec) == requests


def test_texts_keep_every_byte(tmp_path: Path) -> None:
    """Also those that are no UTF-8, in one archive with those that are."""
    arrays = [np.array(texts, dtype=object) for texts in ([b"a", "ä".encode()], [b"\xff\x00"])]
    requests = [(len(array), [tensor("x", array)]) for array in arrays]
    assert _back(tmp_path, requests, TensorSpec("x", "BYTES", (-1,))) == requests


def test_an_open_dimension_is_as_long_as_it_was(tmp_path: Path) -> None:
    """Of each request by itself."""
    requests = [(2, [tensor("x", np.ones((2, n), "f4"))]) for n in (3, 5)]
    assert _back(tmp_path, requests, TensorSpec("x", "FP32", (-1, -1))) == requests


def test_a_tensor_of_the_whole_request_comes_back_once(tmp_path: Path) -> None:
    """The archive has it at every row, the request had it once."""
    inputs = [tensor("x", np.ones((3, 1), "f4")), tensor("scale", np.array([1.0, 2.0], "f4"))]
    specs = (TensorSpec("x", "FP32", (-1, 1)), TensorSpec("scale", "FP32", (2,)))
    assert _back(tmp_path, [(3, inputs)], *specs) == [(3, inputs)]


def test_an_input_that_was_not_sent_stays_away(tmp_path: Path) -> None:
    """It is not made up, so the run is refused and no failure."""
    x, y = tensor("x", np.ones((1, 1), "f4")), tensor("y", np.full((1, 1), np.nan, "f4"))
    requests = [(1, [x]), (1, [x, y]), (1, [y])]
    specs = (TensorSpec("x", "FP32", (-1, 1)), TensorSpec("y", "FP32", (-1, 1)))
    assert _back(tmp_path, requests, *specs) == requests


def test_a_shape_that_the_archive_cannot_tell_is_refused() -> None:
    """Two open dimensions of a row: twelve elements could be 3 × 4 or 6 × 2."""
    with pytest.raises(Refused, match="more than one dimension"):
        require_readable("2", [TensorSpec("image", "FP32", (-1, -1, -1))])
