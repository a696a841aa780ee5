"""Traps: each rule holds at most 5%, and without it the same traffic promotes falsely.

The models are equally good in every trap. What a kind of row counts for comes from
`observe`, with the rule and with the rule broken; the chance of a promotion at any of the
looks up to 4,000 disagreements is then exact. Peeking has its controls beside bars 1 and 3.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from gateway.core.arrays import Bools, Floats, Ints
from gateway.core.evidence import Evidence, Histogram, entity_means, quantise
from gateway.core.metrics import by_name
from gateway.core.observations import MissingLabels, Pairs, observe
from gateway.core.policies.policy import Case
from gateway.core.policies.superiority import superiority
from gateway.core.registration import Terms
from tests.statistics.walks import boundary, ever, evidence

TERMS = Terms(endpoint="flights", champion_digest="a", challenger_digest="b")
NONE = np.nan


def is_promoted(gathered: Evidence) -> bool:
    """Whether the superiority gate passes at 5%."""
    case = Case(evidence=gathered, terms=TERMS, level=0.05, opened_at_us=0, clock_at_us=0)
    return superiority(case).outcome == "passed"


@cache
def gate_boundary() -> Ints:
    """The least wins that pass the superiority gate, up to 4,000 disagreements."""
    return boundary(lambda wins, losses: is_promoted(evidence(wins, losses)), 4_000)


def chance(rows: list[tuple[float, Pairs]], missing_labels: MissingLabels = "worst_case") -> float:
    """P(promotion by 4,000 disagreements) of traffic with these kinds of row, by weight."""
    wins = losses = 0.0
    for weight, pair in rows:
        observed = observe(pair, by_name("zero_one"), missing_labels=missing_labels)
        if not observed.included[0]:
            continue
        wins += weight * (observed.least[0] == 1.0)
        losses += weight * (observed.least[0] == -1.0)
    return ever(gate_boundary(), wins / (wins + losses))


def row(
    champion: float, challenger: float, label: float, *, champion_failed: bool = False
) -> Pairs:
    """One row."""
    return Pairs(
        champion_prediction=np.array([champion]),
        challenger_prediction=np.array([challenger]),
        champion_failed=np.array([champion_failed]),
        challenger_failed=np.array([False]),
        label=np.array([label]),
    )


WON, LOST = row(0.0, 1.0, 1.0), row(1.0, 0.0, 1.0)


@pytest.mark.parametrize(("failing", "floor"), [(0.005, 0.5), (0.01, 0.95)])
def test_champion_failures_win_nothing_for_a_challenger(failing: float, floor: float) -> None:
    """A champion that fails now and then; counted as losses of its own they promote falsely.

    Models that disagree on 10% of rows and are right on 90%. Broken control: the failed
    champion is given a class that is never right.
    """
    disagreeing = [(0.05, WON), (0.05, LOST)]
    failed = [
        (failing * 0.9, row(NONE, 1.0, 1.0, champion_failed=True)),
        (failing * 0.1, row(NONE, 0.0, 1.0, champion_failed=True)),
    ]
    counted_as_lost = [(failing * 0.9, row(-1.0, 1.0, 1.0)), (failing * 0.1, row(-1.0, 0.0, 1.0))]
    assert chance(disagreeing + failed) <= 0.05
    assert chance(disagreeing + counted_as_lost) >= floor


def test_labels_that_never_come_win_nothing_for_a_challenger() -> None:
    """5% of the disagreements stay unlabelled, all of them lost; leaving them out promotes."""
    rows = [(0.5, WON), (0.45, LOST), (0.05, row(1.0, 0.0, NONE))]
    assert chance(rows, "worst_case") <= 0.05
    assert chance(rows, "missing_at_random") >= 0.7


def test_rows_that_share_a_day_are_judged_by_day() -> None:
    """Days favour one model or the other by chance; flights judged one by one promote falsely.

    Days of 40 flights of which 20 disagree; on a day one of the models wins 80% of them.
    By day: at most 5%. By flight, a look after each: over half. And a challenger that is
    better on most days is still promoted by day.
    """
    equal = shared_days(worse=0.2, better=0.8, seed=1)
    assert np.mean([is_ever_promoted_by_day(stream) for stream in equal]) <= 0.05
    assert is_ever_promoted_by_flight(equal).mean() >= 0.5
    good = shared_days(worse=0.5, better=0.95, seed=2)
    assert np.mean([is_ever_promoted_by_day(stream) for stream in good]) >= 0.9


def shared_days(*, worse: float, better: float, seed: int) -> Floats:
    """d of 200 streams of 60 days of 20 disagreements, won by a share that the day drew."""
    random = np.random.default_rng(seed)
    theta = np.where(random.random((200, 60, 1)) < 0.5, worse, better)
    return np.where(random.random((200, 60, 20)) < theta, 1.0, -1.0)


def is_ever_promoted_by_flight(advantages: Floats) -> Bools:
    """For each stream, whether a look after some flight promotes."""
    won = np.cumsum(advantages.reshape(len(advantages), -1) > 0, axis=1)
    promoted: Bools = np.asarray((won >= gate_boundary()[1 : won.shape[1] + 1]).any(axis=1))
    return promoted


def is_ever_promoted_by_day(disagreements: Floats) -> bool:
    """Whether a look after some day promotes; float64[days, 20], the other 20 flights agree."""
    rows = np.concatenate((disagreements, np.zeros_like(disagreements)), axis=1)
    codes = np.repeat(np.arange(len(rows)), rows.shape[1])
    means = entity_means(codes, quantise(rows.ravel()))
    looks = (Histogram.of(means[:day]) for day in range(1, len(means) + 1))
    return any(is_promoted(Evidence(benefit=look, harm=look)) for look in looks)
