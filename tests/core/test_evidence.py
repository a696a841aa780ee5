"""Quantising, entity means, histograms and their JSON."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.evidence import (
    SCALE,
    Counts,
    Evidence,
    Histogram,
    entity_means,
    from_json,
    no_evidence,
    quantise,
    to_json,
)
from gateway.errors import InvalidInput

quantised = st.lists(st.integers(-SCALE, SCALE), max_size=50)


def ints(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


@given(st.lists(st.floats(-1.5, 1.5)))
def test_an_advantage_is_rounded_towards_minus_one(advantages: list[float]) -> None:
    """Equals the floor in exact rational arithmetic, kept within [−SCALE, SCALE]."""
    exact = [floor(Fraction(d) * SCALE) for d in advantages]
    expected = [max(-SCALE, min(SCALE, value)) for value in exact]
    assert quantise(np.array(advantages)).tolist() == expected


def test_nan_is_never_an_advantage() -> None:
    """A row without a number is refused, not counted as something small."""
    with pytest.raises(InvalidInput, match="advantages"):
        quantise(np.array([0.0, np.nan]))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-SCALE, SCALE)), max_size=40))
def test_an_entity_speaks_once_by_its_floored_mean(rows: list[tuple[int, int]]) -> None:
    """Equals Python's integer floor division, entity by entity in the order of the codes."""
    by_code: dict[int, list[int]] = {}
    for code, value in rows:
        by_code.setdefault(code, []).append(value)
    expected = [sum(by_code[code]) // len(by_code[code]) for code in sorted(by_code)]
    codes, values = ints([code for code, _ in rows]), ints([value for _, value in rows])
    assert entity_means(codes, values).tolist() == expected


@given(quantised, quantised)
def test_merging_equals_gathering_together(some: list[int], others: list[int]) -> None:
    """merge is the histogram of both, from either side, and changes neither."""
    a, b = Histogram.of(ints(some)), Histogram.of(ints(others))
    together = Histogram.of(ints(some + others))
    assert a.merge(b) == b.merge(a) == together
    assert hash(a.merge(b)) == hash(together)
    assert (a.n, b.n, together.n) == (len(some), len(others), len(some) + len(others))


@given(quantised)
def test_the_mean_is_that_of_the_values(values: list[int]) -> None:
    """And None, not 0, where there is nothing to average."""
    mean = Histogram.of(ints(values)).mean()
    assert mean == (sum(values) / (len(values) * SCALE) if values else None)


@given(quantised, quantised, st.integers(0, 9))
def test_written_evidence_reads_back_the_same(some: list[int], others: list[int], n: int) -> None:
    """JSON there and back is equal, and writing it again gives the same bytes."""
    gathered = Evidence(
        benefit=Histogram.of(ints(some)), harm=Histogram.of(ints(others)), counts=Counts(rows=n)
    )
    again = from_json(to_json(gathered))
    assert again == gathered
    assert to_json(again) == to_json(gathered)
    assert from_json(msgspec.Raw(to_json(gathered))) == gathered


def test_written_evidence_can_be_read_without_us() -> None:
    """The format: scale, [value, count] pairs by increasing value, and the counts."""
    gathered = Evidence(
        benefit=Histogram.of(ints([SCALE, -SCALE, SCALE])), harm=Histogram.of(ints([0]))
    )
    written = msgspec.json.decode(to_json(gathered))
    assert written["scale"] == 65_536
    assert written["benefit"] == [[-65_536, 1], [65_536, 2]]
    assert written["harm"] == [[0, 1]]
    assert set(written["counts"]) == set(Counts.__struct_fields__)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"{", "evidence"),
        (b'{"scale": 1, "benefit": [], "harm": [], "counts": {}}', "scale"),
        (b'{"scale": 65536, "benefit": [[0, 0]], "harm": [], "counts": {}}', "bins"),
        (b'{"scale": 65536, "benefit": [[1, 1], [0, 1]], "harm": [], "counts": {}}', "bins"),
        (b'{"scale": 65536, "benefit": [[65537, 1]], "harm": [], "counts": {}}', "bins"),
        (b'{"scale": 65536, "benefit": [[1]], "harm": [], "counts": {}}', "bins"),
        (b'{"scale": 65536, "benefit": [[1, 2, 3, 4]], "harm": [], "counts": {}}', "bins"),
        (b'{"scale": 65536, "benefit": [[1, 1e400]], "harm": [], "counts": {}}', "evidence"),
        (b'{"scale": 65536, "benefit": [[1, 99999999999999999999]], "harm": []}', "evidence"),
    ],
)
def test_what_is_no_evidence_is_refused(data: bytes, field: str) -> None:
    """A torn or altered file names the part that cannot be."""
    with pytest.raises(InvalidInput, match=field):
        from_json(data)


def test_a_value_off_the_scale_is_refused() -> None:
    """Only quantised advantages may be gathered."""
    with pytest.raises(InvalidInput, match="quantise"):
        Histogram.of(ints([SCALE + 1]))


def test_a_histogram_cannot_be_changed() -> None:
    """Its arrays are read-only, so evidence that was shown stays what it was."""
    with pytest.raises(ValueError, match="read-only"):
        Histogram.of(ints([1])).counts[0] = 5
    assert no_evidence().merge(no_evidence()) == no_evidence()
