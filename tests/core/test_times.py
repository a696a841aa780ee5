"""Times at the border: what no format of ours can hold is refused where it comes in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.core.times import require_time
from gateway.errors import InvalidInput

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    """µs since the epoch."""
    return (moment - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    "moment", [EPOCH, datetime(2013, 4, 1, tzinfo=UTC), datetime(9998, 12, 31, 23, tzinfo=UTC)]
)
def test_a_time_that_every_format_holds_is_kept(moment: datetime) -> None:
    """Also when it is shown in the zone that is furthest ahead."""
    assert require_time("f", micros(moment)) == micros(moment)


@pytest.mark.parametrize("at_us", [-1, micros(datetime(9999, 1, 1, tzinfo=UTC)), 2**62])
def test_a_time_outside_is_refused_by_its_field(at_us: int) -> None:
    """Such a time would break the export of everything around it."""
    with pytest.raises(InvalidInput, match="occurred_at: send a time between 1970 and 9998"):
        require_time("occurred_at", at_us)
