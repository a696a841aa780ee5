"""The gate that every shadow lane passes before it works: open, paused for a block, or narrow.

Rules: a pause only delays; nothing that a lane has to do is given up for it. The gate knows
who is at work, because a run that reaches into a pause makes its beginning no pause at all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.core.blocks import Schedule

_KEPT_ROUNDS = 16
_LONGEST_REST_S = 5.0


class Gate:
    """Shared by the lanes of one process. Without a schedule there are no pauses."""

    def __init__(self, schedule: Schedule | None, *, clock_us: Callable[[], int]) -> None:
        self.schedule = schedule
        #: The share of its time that a lane may work.
        self.duty = 1.0
        self._clock_us = clock_us
        self._guard = threading.Lock()
        self._begun_us: dict[int, int] = {}
        self._overruns: dict[int, int] = {}
        self._worked: set[int] = set()

    def wait(self, stopping: threading.Event) -> bool:
        """Return when a lane may begin; False if `stopping` is set first."""
        while not stopping.is_set():
            pause_us = self._pause_us()
            if pause_us <= 0:
                return True
            stopping.wait(pause_us / 1e6)
        return False

    @contextmanager
    def working(self, stopping: threading.Event) -> Iterator[None]:
        """Around a lane's work; behind it comes the rest that `duty` asks for."""
        me, begun_us, began = threading.get_ident(), self._clock_us(), time.monotonic()
        with self._guard:
            self._begun_us[me] = begun_us
        try:
            yield
        finally:
            with self._guard:
                del self._begun_us[me]
                self._note(begun_us, self._clock_us())
        if self.duty < 1:
            rest_s = (time.monotonic() - began) * (1 / self.duty - 1)
            stopping.wait(min(rest_s, _LONGEST_REST_S))

    def has_worked(self, turn: int) -> bool:
        """Whether any lane worked in a round that is over."""
        with self._guard:
            return turn in self._worked

    def quiet_from_us(self, turn: int) -> int:
        """From when on nobody worked in the off block of a round that is over; its end if never."""
        assert self.schedule is not None
        block = self.schedule.off_block(turn)
        with self._guard:
            if any(begun_us < block.end_us for begun_us in self._begun_us.values()):
                return block.end_us  # still at work: since then, for all that is known
            return max(block.start_us, self._overruns.get(turn, 0))

    def _pause_us(self) -> int:
        if self.schedule is None:
            return 0
        now_us = self._clock_us()
        block = self.schedule.block_at(now_us)
        return block.end_us - now_us if block.is_off else 0

    def _note(self, begun_us: int, ended_us: int) -> None:
        if self.schedule is None:
            return
        last = ended_us // self.schedule.round_us
        for turn in range(max(begun_us // self.schedule.round_us, last - _KEPT_ROUNDS), last + 1):
            self._worked.add(turn)
            block = self.schedule.off_block(turn)
            if begun_us < block.end_us and ended_us > block.start_us:
                before_us = self._overruns.get(turn, 0)
                self._overruns[turn] = max(before_us, min(ended_us, block.end_us))
        for old in [turn for turn in self._worked if turn < last - _KEPT_ROUNDS]:
            self._worked.discard(old)
            self._overruns.pop(old, None)
