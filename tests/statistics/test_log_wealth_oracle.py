"""Log-wealth against values that we did not compute."""

from __future__ import annotations

import pytest

from gateway.core.sequential.mixture import Mixture, log_wealth, matched
from tests.statistics.oracle import cases
from tests.statistics.walks import histogram


@pytest.mark.parametrize("case_id", ["mix16_0_0", "mix16_12_2", "mix16_60_40", "mix16_40_60"])
def test_the_mixture_has_the_oracles_wealth(case_id: str) -> None:
    """Wins and losses under 0/1 loss at margin 0; agreeing rows change nothing."""
    case = cases()[case_id]
    wins, losses = case["inputs"]
    for ties in (0, 1_000):
        wealth = log_wealth(histogram(wins, losses, ties), 0.0)
        assert wealth == pytest.approx(case["expected"], abs=case["tol"])


def test_the_matched_bet_holds_half_the_weight() -> None:
    """MDE 0.02 at 10% disagreement stakes 0.2 with weight one half."""
    case = cases()["mixdesign_30_14"]
    wins, losses, stake = case["inputs"]
    mixture = matched(minimum_effect=stake * 0.1, disagreement_rate=0.1)
    wealth = log_wealth(histogram(wins, losses), 0.0, mixture)
    assert wealth == pytest.approx(case["expected"], abs=case["tol"])


@pytest.mark.parametrize("case_id", ["klinf_0.07_0.03", "klinf_0.055_0.045"])
def test_the_matched_stake_grows_as_fast_as_any_can(case_id: str) -> None:
    """Per row, λ* = MDE/ρ grows by KLinf, and log(20)/KLinf rows are the least on average."""
    case = cases()[case_id]
    better, worse = case["inputs"]
    stake = matched(better - worse, better + worse).lambdas[-1]
    rows = histogram(round(better * 1000), round(worse * 1000), round(1000 * (1 - better - worse)))
    growth = log_wealth(rows, 0.0, Mixture((stake,), (1.0,))) / 1000
    assert growth == pytest.approx(case["expected"][0], abs=case["tol"])
    assert 2.995732273553991 / growth == pytest.approx(case["expected"][1], rel=case["tol"])
