"""Log-wealth and its bound, against exact and against slower ways."""

from __future__ import annotations

from math import fsum, log, log1p

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.evidence import SCALE, Histogram
from gateway.core.sequential.mixture import (
    FIXED,
    LAMBDAS,
    TOLERANCE,
    log_wealth,
    lower_bound,
    matched,
)

bins = st.dictionaries(st.integers(-SCALE, SCALE), st.integers(1, 10_000), max_size=30)
margins = st.floats(-0.99, 1.0)


def histogram(counted: dict[int, int]) -> Histogram:
    pairs = sorted(counted.items())
    return Histogram.from_json([list(pair) for pair in pairs])


def wide(seed: int, n: int = 40_000) -> Histogram:
    """Many more bins than are looked at one by one in a search."""
    values = np.random.default_rng(seed).normal(0.02, 0.3, n).clip(-1, 1) * SCALE
    return Histogram.of(values.astype(np.int64))


def slow_log_wealth(counted: dict[int, int], m: float) -> float:
    """The formula, bin by bin in Python floats with exact sums."""
    growths = [
        fsum(c * log1p(stake * (v / SCALE - m) / (1 + m)) for v, c in counted.items())
        for stake in LAMBDAS
    ]
    top = max(growths)
    return top + log(fsum(np.exp(growth - top) for growth in growths) / 16)


def test_the_stakes_are_the_ones_of_the_design() -> None:
    """geomspace(0.01, 0.9, 16) up to the last bit, equal weights that sum to 1."""
    assert pytest.approx(np.geomspace(0.01, 0.9, 16), rel=1e-15) == LAMBDAS
    assert sum(FIXED.weights) == sum(matched(0.01, 0.1).weights) == 1.0
    assert matched(0.5, 0.1).lambdas[-1] == 0.9


@given(bins, margins)
def test_wealth_is_that_of_the_formula(counted: dict[int, int], m: float) -> None:
    """Within 1e-9 of the formula evaluated slowly, or of its last digits where it is huge."""
    assert log_wealth(histogram(counted), m) == pytest.approx(
        slow_log_wealth(counted, m), abs=1e-9, rel=1e-13
    )


def test_wealth_of_very_many_bins_is_that_of_the_formula() -> None:
    """Summing block by block loses nothing."""
    gathered = wide(1)
    counted = dict(zip(gathered.values.tolist(), gathered.counts.tolist(), strict=True))
    assert len(counted) > 8_192
    assert log_wealth(gathered, 0.01) == pytest.approx(slow_log_wealth(counted, 0.01), abs=1e-9)


@given(bins, margins, margins)
def test_wealth_falls_as_the_margin_grows(counted: dict[int, int], one: float, two: float) -> None:
    """What bisection rests on."""
    low, high = sorted((one, two))
    gathered = histogram(counted)
    least = log_wealth(gathered, low)
    assert log_wealth(gathered, high) <= least + 1e-12 * max(1.0, abs(least))


@given(bins, margins, st.floats(0.5, 8.0))
def test_interval_and_decision_cannot_disagree(
    counted: dict[int, int], decided_at: float, log_threshold: float
) -> None:
    """The bound is at or above a margin exactly when the decision at that margin rejects."""
    gathered = histogram(counted)
    decided_at = min(decided_at, 0.999)
    bound = lower_bound(gathered, log_threshold, decided_at=decided_at)
    assert (bound >= decided_at) == (log_wealth(gathered, decided_at) >= log_threshold)


@pytest.mark.parametrize("wins", [60, 70, 90, 100])
def test_they_agree_closer_than_the_tolerance(wins: int) -> None:
    """Decided a hair below and a hair above where the wealth crosses its threshold."""
    gathered = histogram({-SCALE: 101 - wins, SCALE: wins})
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        rejected = log_wealth(gathered, middle) >= log(20)
        low, high = (middle, high) if rejected else (low, middle)
    for hair in (TOLERANCE / 100, TOLERANCE / 3):
        below, above = low - hair, low + hair
        assert lower_bound(gathered, log(20), decided_at=below) >= below
        assert lower_bound(gathered, log(20), decided_at=above) < above


@given(bins, st.floats(0.5, 8.0))
def test_the_bound_is_the_last_margin_rejected(
    counted: dict[int, int], log_threshold: float
) -> None:
    """It was itself rejected, a TOLERANCE above was not, and it lies below the mean."""
    gathered = histogram(counted)
    bound = lower_bound(gathered, log_threshold)
    assert bound == -1.0 or log_wealth(gathered, bound) >= log_threshold
    assert log_wealth(gathered, bound + TOLERANCE) < log_threshold
    mean = gathered.mean()
    assert mean is None or bound < mean or bound == -1.0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_merged_bins_only_say_where_to_look(seed: int) -> None:
    """With very many bins the bound still holds on the histogram itself."""
    gathered = wide(seed)
    bound = lower_bound(gathered, log(20))
    assert log_wealth(gathered, bound) >= log(20) > log_wealth(gathered, bound + TOLERANCE)


def test_without_observations_nothing_is_known() -> None:
    """E = 1 at every margin, and the bound is the lowest there is."""
    assert log_wealth(histogram({}), 0.3) == pytest.approx(0.0, abs=1e-12)
    assert lower_bound(histogram({}), log(20)) == -1.0
