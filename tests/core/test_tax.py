"""The shadow tax: found where there is one, not where there is none, and unknown before that."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from gateway.core.tax import (
    BINS,
    LEAST_DUTY,
    MIN_ROUNDS,
    Tax,
    TaxRound,
    estimate,
    histogram,
    next_duty,
)

Latencies = list[npt.NDArray[np.float64]]
_BIN = 2 ** (1 / 32) - 1


def rounds(
    n: int, *, seed: int, added_us: float = 0.0, share: float = 0.03
) -> tuple[Latencies, Latencies]:
    """Latencies of n rounds, on and off; with the shadow on a share of them takes longer.

    Rounds differ from each other: what slows a whole round is no tax.
    """
    random = np.random.default_rng(seed)
    on, off = [], []
    for _ in range(n):
        speed = random.lognormal(0, 0.3)
        one = 300 * speed * random.lognormal(0, 0.5, 400)
        one += added_us * (random.random(400) < share)
        on.append(one)
        off.append(300 * speed * random.lognormal(0, 0.5, 60))
    return on, off


def counted(on: Latencies, off: Latencies) -> list[TaxRound]:
    """The rounds as the meter keeps them."""
    return [
        TaxRound(histogram(one.tolist()), histogram(other.tolist()))
        for one, other in zip(on, off, strict=True)
    ]


def known(n: int, *, seed: int, **changed: float) -> Tax:
    """The tax of n rounds."""
    found = estimate(counted(*rounds(n, seed=seed, **changed)), seed=seed)
    assert found is not None
    return found


def test_a_latency_is_counted_within_2_percent() -> None:
    """Each in one bin, whatever its size; the first and the last take what lies outside."""
    for us in (1, 7, 60, 999, 12_345, 10_000_000):
        (place,) = np.flatnonzero(histogram([us]))
        middle = 2 ** ((place + 0.5) / 32)
        assert abs(middle / us - 1) <= _BIN
    assert histogram([0, -5])[0] == 2
    assert histogram([2**40])[BINS - 1] == 1
    assert histogram([]).sum() == 0


def test_the_estimate_is_the_difference_of_pooled_percentiles() -> None:
    """As numpy's `inverted_cdf` quantile has them, but for the width of a bin."""
    on, off = rounds(40, seed=1, added_us=5_000)
    found = estimate(counted(on, off), seed=1)
    assert found is not None
    expected = [
        float(np.quantile(np.concatenate(kind), 0.99, method="inverted_cdf")) / 1000
        for kind in (on, off)
    ]
    assert found.p99_on_ms == pytest.approx(expected[0], rel=_BIN)
    assert found.p99_off_ms == pytest.approx(expected[1], rel=_BIN)
    assert found.difference_ms == pytest.approx(found.p99_on_ms - found.p99_off_ms)
    assert (found.rounds, found.requests_on, found.requests_off) == (40, 16_000, 2_400)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_interval_is_that_of_a_bootstrap_over_rounds(seed: int) -> None:
    """scipy resamples the rounds by other random numbers: the same within a tenth of its width."""
    on, off = rounds(60, seed=seed, added_us=5_000)

    def difference(places: Any) -> float:
        whole = [np.concatenate([kind[i] for i in places]) for kind in (on, off)]
        first, second = (np.quantile(kind, 0.99, method="inverted_cdf") for kind in whole)
        return float(first - second) / 1000

    expected = stats.bootstrap(
        (np.arange(60),), difference, method="percentile", n_resamples=1000, vectorized=False,
        rng=np.random.default_rng(7),
    ).confidence_interval  # fmt: skip
    found = estimate(counted(on, off), seed=seed)
    assert found is not None
    room = (expected.high - expected.low) * 0.1 + _BIN * found.p99_on_ms
    assert found.lower_ms == pytest.approx(expected.low, abs=room)
    assert found.upper_ms == pytest.approx(expected.high, abs=room)


def test_the_interval_covers_the_truth() -> None:
    """Of 100 experiments about 95."""
    random = np.random.default_rng(0)
    speeds = random.lognormal(0, 0.3, 200_000)
    slow = 300 * speeds * random.lognormal(0, 0.5, 200_000)
    taxed = slow + 5_000 * (random.random(200_000) < 0.03)
    truth_ms = float(np.quantile(taxed, 0.99) - np.quantile(slow, 0.99)) / 1000
    found = [known(40, seed=seed, added_us=5_000) for seed in range(100)]
    covered = sum(tax.lower_ms <= truth_ms <= tax.upper_ms for tax in found)
    assert covered >= 88


def test_a_shadow_that_slows_the_champion_is_found() -> None:
    """Three of a hundred requests 5 ms slower: the whole interval lies above a budget of 1 ms."""
    assert all(known(30, seed=seed, added_us=5_000).lower_ms > 1 for seed in range(20))


def test_a_shadow_that_does_not_is_not() -> None:
    """Of 100 experiments without any tax few have an interval that leaves 0 out."""
    found = [known(30, seed=seed) for seed in range(100)]
    assert sum(tax.lower_ms > 0 for tax in found) <= 8
    assert not any(tax.lower_ms > 1 for tax in found)


def test_too_little_is_unknown() -> None:
    """Few rounds, few requests, or rounds of one kind only: None, which is not 0."""
    on, off = rounds(MIN_ROUNDS, seed=1)
    assert estimate(counted(on, off), seed=1) is not None
    assert estimate([], seed=1) is None
    assert estimate(counted(on[1:], off[1:]), seed=1) is None
    assert estimate(counted(on, [one[:5] for one in off]), seed=1) is None
    assert estimate(counted(on, [*off[1:], off[0][:0]]), seed=1) is None


def test_the_same_rounds_give_the_same_interval() -> None:
    """The seed is an argument, so a report can be made again."""
    assert known(20, seed=5) == known(20, seed=5)


def tax(lower_ms: float, upper_ms: float) -> Tax:
    """A tax with this interval."""
    template = Tax(20, 1000, 1000, 2.0, 1.0, 1.0, 0.0, 0.0)
    return msgspec.structs.replace(template, lower_ms=lower_ms, upper_ms=upper_ms)


def test_the_duty_follows_the_evidence() -> None:
    """Halved by one endpoint above the budget, doubled by all below its half, else kept."""
    above, around, below = tax(1.1, 3), tax(0.2, 1.5), tax(-0.5, 0.4)
    assert next_duty(1.0, [below, above, None], budget_ms=1) == 0.5
    assert next_duty(0.5, [around, below], budget_ms=1) == 0.5
    assert next_duty(0.25, [below, None], budget_ms=1) == 0.5
    assert next_duty(1.0, [below], budget_ms=1) == 1.0
    assert next_duty(LEAST_DUTY, [above], budget_ms=1) == LEAST_DUTY


def test_what_is_unknown_changes_nothing() -> None:
    """Neither a throttle nor its end without evidence."""
    assert next_duty(0.5, [], budget_ms=0) == 0.5
    assert next_duty(1.0, [None, None], budget_ms=0) == 1.0
