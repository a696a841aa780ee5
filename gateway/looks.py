"""Looks of the judge: when the next one is due, and what must have been read before it.

A look has a cut, the time on the endpoint's clock, and the ends of the journals at that moment.
It waits until the shadow has run everything before those ends and the archive holds both, so
that what it says follows from the cut and the ends alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from gateway.archive.intake import Intake
from gateway.core.routes import Rollout
from gateway.journal.reader import end_offsets
from gateway.judge.archive_judge import ArchiveJudge
from gateway.ports import Checkpoint, ControlStore, Registration
from gateway.shadow.lane import Lane

_Key = tuple[str, int]
_Ends = dict[str, int]


class Look(msgspec.Struct):
    """One look, which waits until everything up to `ends` has been read.

    `shadow_ends` are set when the lane has run everything up to `ends`: its frames lie
    before them. `lost_rows` are those known to be in no journal.
    """

    cut_us: int
    ends: _Ends
    lost_rows: int
    shadow_ends: _Ends | None = None


class Looks:
    """The looks at each open registration, one at a time."""

    def __init__(
        self,
        state: Path,
        *,
        store: ControlStore,
        intake: Intake,
        judge: ArchiveJudge,
        act: Callable[[Rollout, Registration, Checkpoint], str],
        clock_us: Callable[[Rollout], int],
    ) -> None:
        self._journals = state / "journal"
        self._shadows = state / "shadow"
        self._store = store
        self._intake = intake
        self._judge = judge
        self._act = act
        self._clock_us = clock_us
        self._waiting: dict[_Key, Look] = {}
        self._last: dict[_Key, Look] = {}

    def last(self, registration: Registration) -> Look | None:
        """The last look that was taken."""
        return self._last.get((registration.endpoint, registration.number))

    def take(self, registration: Registration, rollout: Rollout, lane: Lane) -> str | None:
        """Take the look that is due, if it can be taken yet.

        What is wrong with acting on a new checkpoint, empty if nothing; None without one.
        """
        key = (registration.endpoint, registration.number)
        waiting = self._waiting.get(key) or self._next(key, rollout)
        if waiting is None:
            return None
        self._waiting[key] = waiting
        if not self._has_read(waiting, lane):
            return None
        told = None
        checkpoint = self._judge.judge(registration, waiting.cut_us, waiting.ends)
        if checkpoint is not None:
            self._store.add_checkpoint(checkpoint)
            told = self._act(rollout, registration, checkpoint)
        self._last[key] = self._waiting.pop(key)
        return told

    def _next(self, key: _Key, rollout: Rollout) -> Look | None:
        # The clock first, the ends after it: every row whose horizon the clock has passed
        # then lies before the ends.
        cut_us = self._clock_us(rollout)
        found = Look(cut_us, end_offsets(self._journals), self._intake.lost_rows)
        before = self._last.get(key)
        if before is not None and msgspec.structs.replace(before, shadow_ends=None) == found:
            return None
        return found

    def _has_read(self, waiting: Look, lane: Lane) -> bool:
        if waiting.shadow_ends is None and lane.has_reached(waiting.ends):
            waiting.shadow_ends = end_offsets(self._shadows)
        if waiting.shadow_ends is None:
            return False
        return self._intake.has_archived({**waiting.ends, **waiting.shadow_ends})
