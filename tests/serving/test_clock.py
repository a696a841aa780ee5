"""The clock that clients bring: shared by workers, kept by files, never dragged far ahead."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gateway.errors import InvalidInput
from gateway.serving.clock import EventClock, read_clock

DAY_US = 86_400_000_000
NOON_US = 1_365_000_000_000_000


def _clock(folder: Path, writer_id: str) -> EventClock:
    return EventClock(folder, writer_id=writer_id, tolerance_us=DAY_US)


def test_the_clock_is_the_latest_time_read(tmp_path: Path) -> None:
    """Earlier times are admitted and change nothing: traffic may come out of order."""
    clock = _clock(tmp_path, "a")
    assert read_clock(tmp_path) == 0
    for time_us in (NOON_US, NOON_US - 3 * DAY_US, NOON_US + 5, -1):
        clock.admit("t", time_us)
    assert clock.now_us == read_clock(tmp_path) == NOON_US + 5


def test_a_time_a_day_ahead_is_the_last_that_is_admitted(tmp_path: Path) -> None:
    """Beyond the tolerance it is refused with its field, and the clock stays."""
    clock = _clock(tmp_path, "a")
    clock.admit("t", NOON_US)
    with pytest.raises(InvalidInput, match=r"parameters\.occurred_at: .* 86400 s ahead"):
        clock.admit("parameters.occurred_at", NOON_US + DAY_US + 1)
    assert read_clock(tmp_path) == NOON_US
    clock.admit("t", NOON_US + DAY_US)
    assert read_clock(tmp_path) == NOON_US + DAY_US


@pytest.mark.parametrize("begun", [False, True])
def test_no_time_lies_in_the_future(tmp_path: Path, *, begun: bool) -> None:
    """Not even the first: it would be the clock, and every horizon would have passed."""
    now_us = time.time_ns() // 1000
    clock = _clock(tmp_path, "a")
    if begun:
        clock.admit("t", now_us)
    with pytest.raises(InvalidInput, match="ahead of the endpoint's clock"):
        clock.admit("parameters.occurred_at", now_us + DAY_US + 60_000_000)
    clock.admit("t", now_us + DAY_US)
    with pytest.raises(InvalidInput):
        clock.admit("t", now_us + 2 * DAY_US)


def test_checking_a_time_moves_no_clock(tmp_path: Path) -> None:
    """A label's time is only looked at: whose it is, is not known yet."""
    clock = _clock(tmp_path, "a")
    clock.admit("t", NOON_US)
    clock.check("observed_at", NOON_US + DAY_US)
    with pytest.raises(InvalidInput, match="observed_at"):
        clock.check("observed_at", NOON_US + DAY_US + 1)
    assert clock.now_us == read_clock(tmp_path) == NOON_US


def test_workers_share_one_clock(tmp_path: Path) -> None:
    """A time that is too far for what this worker saw may be right for what another saw."""
    one, two = _clock(tmp_path, "a"), _clock(tmp_path, "b")
    one.admit("t", NOON_US)
    two.admit("t", NOON_US)
    for days in range(1, 4):
        one.admit("t", NOON_US + days * DAY_US)
    two.admit("t", NOON_US + 4 * DAY_US)
    assert read_clock(tmp_path) == NOON_US + 4 * DAY_US
    with pytest.raises(InvalidInput):
        two.admit("t", NOON_US + 6 * DAY_US)


def test_a_clock_outlives_its_worker(tmp_path: Path) -> None:
    """The files of dead writers still count, for readers and for the worker that comes next."""
    _clock(tmp_path, "dead").admit("t", NOON_US)
    reborn = _clock(tmp_path, "new")
    assert reborn.now_us == NOON_US
    (tmp_path / "dead").unlink()
    assert read_clock(tmp_path) == NOON_US


def test_a_file_that_is_half_made_is_passed(tmp_path: Path) -> None:
    """A worker that is just starting must not stop the others from reading."""
    _clock(tmp_path, "a").admit("t", NOON_US)
    (tmp_path / "b").write_bytes(b"\x01\x02")
    (tmp_path / "c").write_bytes(b"")
    assert read_clock(tmp_path) == NOON_US
    assert read_clock(tmp_path / "nowhere") == 0
