"""Assignment and sampling: the same everywhere, monotone, and in the right shares."""

from __future__ import annotations

from collections import Counter
from math import sqrt

import pytest

from gateway.core.split import assign, is_sampled, unit_hash

SALT = b"a registration's salt"
UNITS = [unit_hash(SALT, f"unit-{number}") for number in range(20_000)]


def _assigned(split: dict[str, int]) -> list[str]:
    return [assign(split, salt=SALT, hashed_unit=unit) for unit in UNITS]


def test_a_unit_always_gets_the_same_version() -> None:
    """Neither order of the split nor repetition changes an assignment."""
    split = {"1": 5000, "2": 3000, "3": 2000}
    assert _assigned(split) == _assigned(dict(reversed(split.items())))


@pytest.mark.parametrize(
    "split",
    [
        {"1": 9000, "2": 1000},
        {"1": 5000, "2": 5000},
        {"1": 9999, "2": 1},
        {"1": 1, "2": 2, "3": 9997},
    ],
)
def test_shares_are_what_the_split_says(split: dict[str, int]) -> None:
    """Within five standard deviations of the binomial for every version."""
    counts = Counter(_assigned(split))
    for version, weight_bp in split.items():
        share = weight_bp / 10_000
        spread = sqrt(len(UNITS) * share * (1 - share))
        assert abs(counts[version] - len(UNITS) * share) <= 5 * spread + 1


def test_a_growing_share_only_gains_units() -> None:
    """Along a ramp no unit goes back from the challenger to the champion."""
    answered_by_2: set[int] = set()
    for weight_bp in (0, 1, 100, 1000, 2500, 5000, 9000, 10_000):
        assigned = _assigned({"1": 10_000 - weight_bp, "2": weight_bp})
        now = {unit for unit, version in zip(UNITS, assigned, strict=True) if version == "2"}
        assert answered_by_2 <= now
        answered_by_2 = now
    assert len(answered_by_2) == len(UNITS)


def test_a_version_that_shrinks_gains_nothing_and_one_that_grows_loses_nothing() -> None:
    """Weight goes from 1 to 4: no unit comes to 1, none leaves 4, none moves from 2 to 3."""
    before = _assigned({"1": 4000, "2": 3000, "3": 3000})
    after = _assigned({"1": 1000, "2": 3000, "3": 3000, "4": 3000})
    moved = {(was, now) for was, now in zip(before, after, strict=True) if was != now}
    assert moved == {("1", "2"), ("1", "3"), ("1", "4"), ("2", "4"), ("3", "4")}


def test_a_weight_of_zero_never_answers() -> None:
    """Not even for the luckiest unit."""
    assert set(_assigned({"1": 0, "2": 10_000})) == {"2"}
    assert "3" not in _assigned({"1": 5000, "2": 5000, "3": 0})


def test_another_salt_assigns_anew() -> None:
    """Assignments under two salts are independent."""
    split = {"1": 5000, "2": 5000}
    other = [assign(split, salt=b"another", hashed_unit=unit) for unit in UNITS]
    same = sum(a == b for a, b in zip(_assigned(split), other, strict=True))
    assert abs(same - len(UNITS) / 2) <= 5 * sqrt(len(UNITS) / 4)


@pytest.mark.parametrize("probability_bp", [0, 1, 500, 5000, 9999, 10_000])
def test_sampling_keeps_its_probability(probability_bp: int) -> None:
    """Nothing at 0, everything at 10,000, and the binomial in between."""
    sampled = sum(
        is_sampled(f"{number:032x}", key=b"key", probability_bp=probability_bp)
        for number in range(len(UNITS))
    )
    share = probability_bp / 10_000
    assert abs(sampled - len(UNITS) * share) <= 5 * sqrt(len(UNITS) * share * (1 - share))


def test_a_larger_sample_holds_the_smaller_one() -> None:
    """Raising the probability never drops a prediction from the sample."""
    ids = [f"{number:032x}" for number in range(2000)]
    small = {i for i in ids if is_sampled(i, key=b"key", probability_bp=1000)}
    large = {i for i in ids if is_sampled(i, key=b"key", probability_bp=3000)}
    assert small < large
