"""The final-label rule, example by example; its order-freedom is in tests/statistics."""

from __future__ import annotations

from typing import get_args

import pytest

from gateway.core.labels import Label, final
from gateway.core.registration import EventTime


def label(label_id: str, observed_at_us: int, received_at_us: int) -> Label:
    return Label(
        label_id=label_id,
        value=label_id,
        observed_at_us=observed_at_us,
        received_at_us=received_at_us,
    )


@pytest.mark.parametrize(
    ("labels", "final_id"),
    [
        ([], None),
        ([label("a", 5, 9), label("b", 6, 7)], "b"),  # observed later
        ([label("a", 5, 9), label("b", 5, 7)], "a"),  # then received later
        ([label("a", 5, 9), label("b", 5, 9)], "b"),  # then the greater id
        ([label("a", 5, 9), label("a", 5, 9)], "a"),  # sent twice
    ],
)
def test_the_latest_word_in_time_is_final(labels: list[Label], final_id: str | None) -> None:
    """Greatest (observed_at, received_at, label id) within the horizon; None without any."""
    for event_time in get_args(EventTime):
        judged = final(labels, predicted_at_us=0, horizon_us=10, event_time=event_time)
        assert (judged.label_id if judged else None) == final_id


@pytest.mark.parametrize(
    ("event_time", "final_id"), [("client", "observed_in_time"), ("accepted", "received_in_time")]
)
def test_the_horizon_is_one_of_the_endpoints_own_clock(
    event_time: EventTime, final_id: str
) -> None:
    """A client's clock counts observed_at, ours counts received_at; the last instant is in."""
    labels = [label("observed_in_time", 110, 999), label("received_in_time", 999, 110)]
    judged = final(labels, predicted_at_us=100, horizon_us=10, event_time=event_time)
    assert judged is not None
    assert judged.label_id == final_id
    none = final(labels, predicted_at_us=99, horizon_us=10, event_time=event_time)
    assert none is None
