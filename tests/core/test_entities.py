"""Which rows an entity speaks for, and when."""

from __future__ import annotations

import numpy as np

from gateway.core.entities import windows


def test_a_window_opens_at_the_first_row_and_shuts_for_good() -> None:
    """Rows after the window are outside, also when the entity comes back much later."""
    codes = np.array([7, 7, 7, 3, 7])
    at_us = np.array([50, 40, 51, 99, 400])
    there = windows(codes, at_us, window_us=10, horizon_us=0, cut_us=1_000)
    assert there.inside.tolist() == [True, True, False, True, False]


def test_an_entity_is_due_when_nothing_more_can_count() -> None:
    """The clock must have passed window and horizon, and then all its rows are due at once."""
    codes, at_us = np.array([1, 1, 2]), np.array([0, 10, 5])
    due = [
        windows(codes, at_us, window_us=10, horizon_us=20, cut_us=cut_us).due.tolist()
        for cut_us in (30, 31, 36)
    ]
    assert due == [[False, False, False], [True, True, False], [True, True, True]]


def test_no_rows_make_no_windows() -> None:
    """Nothing in, nothing out."""
    none = np.empty(0, dtype=np.int64)
    assert windows(none, none, window_us=1, horizon_us=1, cut_us=1).due.tolist() == []
