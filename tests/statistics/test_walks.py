"""Bars 1 and 2: exact chances of our own stopping boundary, against the oracle."""

from __future__ import annotations

from functools import cache
from math import comb, log, sqrt

import numpy as np
import pytest

from gateway.core.arrays import Ints
from gateway.core.sequential.mixture import FIXED, Mixture, log_wealth, matched
from tests.statistics.oracle import cases
from tests.statistics.walks import boundary, ever, first_crossings, histogram, power

MOST = 4_000
DESIGN = matched(0.02, 0.1)


@cache
def mixture_boundary(mixture: Mixture) -> Ints:
    """Where a look after every disagreement rejects at α = 0.05."""

    def rejects(wins: int, losses: int) -> bool:
        return log_wealth(histogram(wins, losses), 0.0, mixture) >= log(20)

    return boundary(rejects, MOST)


@cache
def mcnemar_boundary() -> Ints:
    """Where the one-sided exact McNemar test, asked from the 10th pair on, rejects at 0.05."""
    least, tail = np.empty(MOST + 1, dtype=np.int64), 0
    wins = 0
    for n in range(MOST + 1):
        # Exact integers: P(X ≥ wins) · 2^n, carried from n − 1 to n by Pascal's rule.
        tail = 1 if n == 0 else 2 * tail + comb(n - 1, wins - 1) if wins else 2**n
        while wins <= n and 20 * tail > 2**n:
            tail -= comb(n, wins)
            wins += 1
        least[n] = wins if n >= 10 else n + 1
    return least


@pytest.mark.parametrize("case_id", ["exactAA_mix16", "exactAA_naive_mcnemar_1sided"])
def test_chance_of_a_false_promotion_is_the_exact_one(case_id: str) -> None:
    """Bar 1: the mixture by 100 … 4,000 disagreements, and the naive test as the control."""
    case = cases()[case_id]
    least = mixture_boundary(FIXED) if "mix16" in case_id else mcnemar_boundary()
    chances = np.cumsum(first_crossings(least, 0.5))[case["inputs"]["n"]]
    assert chances == pytest.approx(case["expected"], abs=case["tol"])


@pytest.mark.parametrize(
    "case_id",
    [
        "exactpower_mix16_0.7",
        "exactpower_mix16_0.55",
        "exactpower_mix16_design0.2_0.7",
        "exactpower_mix16_design0.2_0.6",
    ],
)
def test_power_is_the_exact_one(case_id: str) -> None:
    """Bar 2: chance, median and mean of the disagreements that a better challenger needs."""
    case = cases()[case_id]
    least = mixture_boundary(DESIGN if "design" in case_id else FIXED)
    total, median, mean = power(least, case["inputs"]["theta"])
    expected_total, expected_median, expected_mean, _ = case["expected"]
    assert total == pytest.approx(expected_total, abs=case["tol"])
    assert median == expected_median
    assert mean == pytest.approx(expected_mean, rel=case["tol"])


@pytest.mark.parametrize(
    ("theta", "median", "mean"), [(0.7, 47, 52.54), (0.6, 177, 204.31), (0.55, 692, 800.82)]
)
def test_waiting_is_near_the_least_possible(theta: float, median: int, mean: float) -> None:
    """Bar 2: at most 1.45 × the bound that no test of this level can beat on average."""
    _, found_median, found_mean = power(mixture_boundary(FIXED), theta)
    assert found_median == median
    assert found_mean == pytest.approx(mean, abs=0.005)
    assert found_mean <= 1.45 * least_possible(theta)


@pytest.mark.parametrize("theta", [0.6])
def test_a_matched_bet_waits_less(theta: float) -> None:
    """Bar 2: with half the weight on the minimum effect, at most 1.20 × the bound."""
    assert power(mixture_boundary(DESIGN), theta)[2] <= 1.20 * least_possible(theta)


def test_a_naive_look_after_every_label_fails() -> None:
    """The control of the peeking trap: a z-test looked at each time promotes in over 35%."""
    least = boundary(lambda w, s: w - s >= 1.6449 * sqrt(w + s) and w > 0, 2_000)
    assert ever(least, 0.5) > 0.35
    assert ever(mixture_boundary(FIXED), 0.5) <= 0.05


def least_possible(theta: float) -> float:
    """log(20)/KL(Bernoulli(θ) ‖ Bernoulli(1/2)), in disagreements."""
    return log(20) / (theta * log(2 * theta) + (1 - theta) * log(2 * (1 - theta)))
