"""Reading journals that others write: which there are, and what stands in one from an offset.

Rules: reading changes nothing and needs no lock of its own beyond the momentary test whether
a writer lives. What cannot be read is reported, never passed over in silence.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.core.records import Record, decode
from gateway.errors import CorruptJournal
from gateway.journal.frames import frame_at, missing_bytes, next_frame
from gateway.journal.writer import segment_name

CHUNK_BYTES = 4 << 20


class Entry(NamedTuple):
    """One record and the offset behind its frame."""

    end: int
    record: Record


class Damage(NamedTuple):
    """Bytes that were passed because no good frame begins in them."""

    writer_id: str
    start: int
    end: int


def writer_ids(root: Path) -> list[str]:
    """All journals under `root`, in no order that means anything."""
    if not root.exists():
        return []
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def is_sealed(folder: Path) -> bool:
    """Whether the journal's writer is gone, so that it never grows again."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def live_writers(root: Path) -> set[str]:
    """The writers that live now: their processes hold their locks."""
    return {name for name in writer_ids(root) if not is_sealed(root / name)}


def end_offset(folder: Path) -> int:
    """The offset behind the last byte of the journal as it is now."""
    starts = segment_starts(folder)
    if not starts:
        return 0
    return starts[-1] + (folder / segment_name(starts[-1])).stat().st_size


def segment_starts(folder: Path) -> list[int]:
    """The start offsets of the segments, ascending."""
    return sorted(int(path.stem, 16) for path in folder.glob("*.seg"))


class JournalTail:
    """Reads one journal from an offset on, as far as it has been written."""

    def __init__(self, folder: Path, *, offset: int = 0) -> None:
        self.writer_id = folder.name
        self.offset = offset
        self.damages: list[Damage] = []
        self._folder = folder
        self._chunk_bytes = CHUNK_BYTES

    def read(self) -> list[Entry]:
        """The next entries, up to about CHUNK_BYTES of them; empty when there are none yet.

        Raises CorruptJournal when a frame is whole but holds no record of ours.
        """
        start = self._segment_of(self.offset)
        if start is None:
            return []
        # Ask before reading: a writer that dies in between has written all that it will.
        sealed = self._is_finished(start)
        data = memoryview(self._bytes_from(start))
        entries = list(self._entries(data))
        if entries or not data:
            if not data and sealed:
                self._next_segment(start)
            return entries
        if self._grew_chunk(data):
            return self.read()
        self._pass_bad_frame(data, sealed=sealed)
        return []

    def drain(self, *, until: int | None = None) -> Iterator[Entry]:
        """All entries that can be read now, up to the offset `until` where it is given."""
        while until is None or self.offset < until:
            before = (self.offset, len(self.damages))
            yield from self.read()
            if (self.offset, len(self.damages)) == before and not self._more_segments():
                return

    def _entries(self, data: memoryview) -> Iterator[Entry]:
        position, base = 0, self.offset
        while (frame := frame_at(data, position)) is not None:
            position = frame.end
            self.offset = base + position
            yield Entry(self.offset, self._decode(data[frame.start : frame.end]))

    def _decode(self, payload: memoryview) -> Record:
        try:
            return decode(payload)
        except msgspec.DecodeError as error:
            raise CorruptJournal(
                f"journal {self.writer_id} holds a whole frame before offset {self.offset} "
                f"that is no record of this release: {error}"
            ) from error

    def _grew_chunk(self, data: memoryview) -> bool:
        """Whether the frame is only larger than the chunk, which has been made to fit it."""
        needed = len(data) + missing_bytes(data, 0)
        if not len(data) < needed <= self._rest_of_segment():
            return False
        self._chunk_bytes = needed
        return True

    def _pass_bad_frame(self, data: memoryview, *, sealed: bool) -> None:
        good = next_frame(data, 1)
        if good is None and not sealed:
            return  # the end of a journal that still grows
        end = self.offset + (len(data) if good is None else good)
        self.damages.append(Damage(self.writer_id, self.offset, end))
        self.offset = end

    def _bytes_from(self, segment_start: int) -> bytes:
        path = self._folder / segment_name(segment_start)
        with path.open("rb", buffering=0) as file:
            file.seek(self.offset - segment_start)
            return file.read(self._chunk_bytes) or b""

    def _rest_of_segment(self) -> int:
        start = self._segment_of(self.offset) or 0
        return (self._folder / segment_name(start)).stat().st_size - (self.offset - start)

    def _segment_of(self, offset: int) -> int | None:
        starts = [start for start in segment_starts(self._folder) if start <= offset]
        return starts[-1] if starts else None

    def _is_finished(self, segment_start: int) -> bool:
        return segment_starts(self._folder)[-1] > segment_start or is_sealed(self._folder)

    def _next_segment(self, current: int) -> None:
        later = [start for start in segment_starts(self._folder) if start > current]
        if later and later[0] > self.offset:
            self.damages.append(Damage(self.writer_id, self.offset, later[0]))
            self.offset = later[0]

    def _more_segments(self) -> bool:
        return segment_starts(self._folder)[-1:] > [self.offset]
