"""The schedule of blocks: one of each round is off, and nobody can tell which without the seed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.blocks import Schedule

TIMES = st.integers(0, 2**52)


@given(at_us=TIMES, seed=st.integers(0, 2**64 - 1), blocks=st.integers(1, 30))
def test_every_moment_lies_in_one_block(at_us: int, seed: int, blocks: int) -> None:
    """And the block says the same of each of its moments."""
    schedule = Schedule(seed=seed, block_us=1_000, blocks=blocks)
    block = schedule.block_at(at_us)
    assert block.start_us <= at_us < block.end_us == block.start_us + 1_000
    assert block.start_us == block.round * schedule.round_us + block.place * 1_000
    assert schedule.block_at(block.start_us) == block == schedule.block_at(block.end_us - 1)


@given(turn=st.integers(0, 2**40), seed=st.integers(0, 2**64 - 1))
def test_one_block_of_a_round_is_off(turn: int, seed: int) -> None:
    """The one that `off_block` names."""
    schedule = Schedule(seed=seed, block_us=10, blocks=7)
    start_us = turn * schedule.round_us
    found = [schedule.block_at(start_us + 10 * place) for place in range(7)]
    assert [block for block in found if block.is_off] == [schedule.off_block(turn)]
    assert {block.round for block in found} == {turn}


def test_every_place_is_off_equally_often() -> None:
    """Over many rounds; a chi-square of more than 40 with 9 degrees of freedom is no chance."""
    schedule = Schedule(seed=3, blocks=10)
    places = Counter(schedule.off_place(turn) for turn in range(10_000))
    assert sum((places[place] - 1000) ** 2 / 1000 for place in range(10)) < 40


@pytest.mark.parametrize("other", [4, 2**63])
def test_another_seed_is_another_schedule(other: int) -> None:
    """The same one is the same, in every process."""
    places = [Schedule(seed=3).off_place(turn) for turn in range(8)]
    assert places == [Schedule(seed=3).off_place(turn) for turn in range(8)]
    assert places != [Schedule(seed=other).off_place(turn) for turn in range(8)]
    assert places == [8, 7, 4, 14, 11, 9, 16, 18]
