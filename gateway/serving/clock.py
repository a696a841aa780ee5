"""The clock of an endpoint whose clients bring the time (`event_time: client`).

It is the largest time that any worker has read. Each worker writes its own largest into a
file of eight bytes; the files of the others are read only when a time looks too far ahead,
so the ordinary request costs one comparison.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path
from threading import Lock

from gateway.errors import InvalidInput

_TIME = struct.Struct("<q")


class EventClock:
    """One worker's part of one endpoint's clock."""

    def __init__(self, folder: Path, *, writer_id: str, tolerance_us: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._tolerance_us = tolerance_us
        path = folder / writer_id
        path.write_bytes(_TIME.pack(0))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _TIME.size)
        self.now_us = 0
        self._lock = Lock()  # requests come on the event loop, labels in threads
        self.advance(read_clock(folder))

    def admit(self, field: str, time_us: int) -> None:
        """Move the clock. Raises InvalidInput for a time too far ahead of it."""
        if time_us > self.now_us:
            self.check(field, time_us)
            self.advance(time_us)

    def check(self, field: str, time_us: int) -> None:
        """Raise InvalidInput for a time too far ahead; the clock stays where it is."""
        # Nothing has happened in the future, so this machine's time bounds the first time that is
        # sent, and every other. Without that one request could end every horizon.
        wall_us = time.time_ns() // 1000
        if time_us <= min(self.now_us or wall_us, wall_us) + self._tolerance_us:
            return
        self.advance(read_clock(self._folder))
        if time_us > min(self.now_us or wall_us, wall_us) + self._tolerance_us:
            raise InvalidInput(
                field,
                f"the time is more than {self._tolerance_us // 1_000_000} s ahead of the "
                "endpoint's clock, which is the latest time it has been sent; check the "
                "client's clock (or raise clock_tolerance in the endpoint file)",
            )

    def advance(self, time_us: int) -> None:
        """Move the clock; it never goes back."""
        with self._lock:
            if time_us > self.now_us:
                self.now_us = time_us
                _TIME.pack_into(self._memory, 0, time_us)


def read_clock(folder: Path) -> int:
    """The endpoint's clock in µs, 0 before its first time."""
    latest = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        content = path.read_bytes()
        if len(content) == _TIME.size:
            latest = max(latest, _TIME.unpack(content)[0])
    return latest
