"""Which label of a row is the final one, whenever anybody asks.

The greatest (observed_at, received_at, label id) among the labels within the maturity
horizon after the prediction. Later labels and corrections are kept, shown and counted;
they are never judged, or a verdict would depend on when it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.core.registration import EventTime


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """One label of one row of one prediction. Times are microseconds since the epoch, UTC."""

    label_id: str  # the same id is the same label, sent again
    value: float | str
    observed_at_us: int
    received_at_us: int


def final(
    labels: Iterable[Label], *, predicted_at_us: int, horizon_us: int, event_time: EventTime
) -> Label | None:
    """The label that is judged; None where none came within the horizon.

    With event time `client` the horizon is one of the client's clock: observed_at counts
    from occurred_at. With `accepted` it is one of ours: received_at counts from accepted_at.
    """
    last_us = predicted_at_us + horizon_us
    in_time = [label for label in labels if _counted_at_us(label, event_time) <= last_us]
    return max(in_time, key=_rank, default=None)


def _counted_at_us(label: Label, event_time: EventTime) -> int:
    return label.observed_at_us if event_time == "client" else label.received_at_us


def _rank(label: Label) -> tuple[int, int, str]:
    return label.observed_at_us, label.received_at_us, label.label_id
