"""Times as they cross our borders: µs since the epoch, within years that every format can hold."""

from __future__ import annotations

from gateway.errors import InvalidInput

#: 9999-01-01: the last year is left out, so that no zone carries a time past it.
_LATEST_US = 253_370_764_800_000_000


def require_time(field: str, at_us: int) -> int:
    """The same time. Raises InvalidInput before 1970 and from 9999 on."""
    if 0 <= at_us < _LATEST_US:
        return at_us
    raise InvalidInput(field, "send a time between 1970 and 9998")
