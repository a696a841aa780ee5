"""Rows that a worker accepted and that no journal holds: found by counting, once each.

Rules: every record of a prediction carries its writer's running count of accepted rows, its
own included. What the count grew by beyond the record's rows was accepted since the record
before and is in no frame that can be read: it was answered without a record, or its frame was
lost. Behind the last record the journal's tally says how far the count went. A lost label is
no row and is not counted here; it leaves its row unlabelled, which helps no challenger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

_MINUTE_US = 60_000_000


class Gap(msgspec.Struct, frozen=True):
    """Rows of one writer that are in no journal, accepted up to `until_us`.

    Which endpoint they were of nobody knows, so they count against every one.
    """

    writer: str
    rows: int
    until_us: int


class RowCounts:
    """How many rows each writer has accepted, as far as its journal was read."""

    def __init__(self, accepted: Mapping[str, int], covered: Iterable[str]) -> None:
        """Go on from `accepted`. Of `covered` writers without a count, written by a release
        that kept none, the next count is where counting begins."""
        self._accepted = dict(accepted)
        self._uncounted = set(covered) - self._accepted.keys()
        self._found: list[Gap] = []

    @property
    def accepted(self) -> dict[str, int]:
        """The latest count of each writer."""
        return dict(self._accepted)

    @property
    def found(self) -> bool:
        """Whether there are gaps that were not taken."""
        return bool(self._found)

    def note(self, writer: str, *, accepted_rows: int, rows: int, at_us: int) -> None:
        """A count of `accepted_rows`, the last `rows` of them in the journal."""
        before = self._accepted.get(writer, 0)
        self._accepted[writer] = max(before, accepted_rows)
        if writer in self._uncounted:
            self._uncounted.remove(writer)
        elif accepted_rows - rows > before:
            self._found.append(Gap(writer, accepted_rows - rows - before, at_us))

    def added_to(self, gaps: Iterable[Gap]) -> tuple[Gap, ...]:
        """`gaps` and those found since: one for a writer and a minute, however many there were."""
        by_minute: dict[tuple[str, int], Gap] = {}
        for gap in (*gaps, *self._found):
            key = (gap.writer, gap.until_us // _MINUTE_US)
            other = by_minute.get(key)
            by_minute[key] = gap if other is None else _both(other, gap)
        return tuple(by_minute.values())

    def forget_found(self) -> None:
        """They are in the manifest."""
        self._found.clear()


def unrecorded_rows(gaps: Iterable[Gap], *, since_us: int) -> int:
    """Rows in no journal that may have been accepted at or after `since_us`."""
    return sum(gap.rows for gap in gaps if gap.until_us >= since_us)


def _both(one: Gap, other: Gap) -> Gap:
    return Gap(one.writer, one.rows + other.rows, max(one.until_us, other.until_us))
