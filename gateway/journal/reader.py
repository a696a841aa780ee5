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
#: The file that says how much of a journal's beginning retention has deleted.
LET_GO = "let-go"


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
    """The offset behind the last byte of the journal as it is now; 0 if it was let go."""
    starts = segment_starts(folder)
    try:
        return starts[-1] + (folder / segment_name(starts[-1])).stat().st_size if starts else 0
    except FileNotFoundError:
        return 0


def end_offsets(root: Path) -> dict[str, int]:
    """The end of each journal below `root` as it is now."""
    return {name: end_offset(root / name) for name in writer_ids(root)}


def segment_starts(folder: Path) -> list[int]:
    """The start offsets of the segments, ascending."""
    return sorted(int(path.stem, 16) for path in folder.glob("*.seg"))


def let_go_until(folder: Path) -> int:
    """The offset up to which retention has deleted the journal; 0 where it has not."""
    try:
        return int((folder / LET_GO).read_text())
    except FileNotFoundError:
        return 0


class JournalTail:
    """Reads one journal from an offset on, as far as it has been written."""

    def __init__(self, folder: Path, *, offset: int = 0) -> None:
        self.writer_id = folder.name
        self.offset = offset
        self.damages: list[Damage] = []
        #: Whether everything has been read that this journal will ever hold.
        self.ended = False
        self.folder = folder

    def read(self) -> list[Entry]:
        """The next entries, about CHUNK_BYTES of them; empty when there are none yet.

        Raises CorruptJournal, again at each call, when the next frame is whole but holds no
        record of this release; `offset` stays in front of it.
        """
        if self.ended:
            return []
        # Ask before looking: a writer that dies in between has written all that it will.
        sealed = is_sealed(self.folder)
        starts = segment_starts(self.folder)
        if not starts:
            self.ended = sealed
            return []
        if self.offset < starts[0]:
            self.offset = max(self.offset, min(starts[0], let_go_until(self.folder)))
            self._pass(starts[0])
        start = max(one for one in starts if one <= self.offset)
        data = self._bytes(start, CHUNK_BYTES)
        entries = self._entries(data)
        if not entries and len(data) == CHUNK_BYTES:
            data = self._bytes(start, -1)  # one frame is larger than a chunk, or damaged
            entries = self._entries(data)
        if not entries:
            later = min((one for one in starts if one > start), default=None)
            self._pass_bad_bytes(data, later=later, sealed=sealed)
        return entries

    def drain(self) -> Iterator[Entry]:
        """All entries that can be read now. Raises as `read` does."""
        before = -1
        while self.offset != before:
            before = self.offset
            yield from self.read()

    def _entries(self, data: memoryview) -> list[Entry]:
        entries: list[Entry] = []
        position, base = 0, self.offset
        while (frame := frame_at(data, position)) is not None:
            try:
                record = decode(data[frame.start : frame.end])
            except msgspec.DecodeError as error:
                if entries:
                    break  # what stands before it comes first
                raise CorruptJournal(
                    f"journal {self.writer_id} holds a whole frame at offset {self.offset} that "
                    f"is no record of this release: {error}; use the release that wrote it"
                ) from error
            position = frame.end
            entries.append(Entry(base + position, record))
        self.offset = base + position
        return entries

    def _pass_bad_bytes(self, data: memoryview, *, later: int | None, sealed: bool) -> None:
        """Go on behind bytes that hold no frame, unless they may be a frame's beginning."""
        if later is None and (not data or missing_bytes(data, 0)):
            # The end of the journal. A frame that says itself that more is to come is either
            # being written or was torn, and then nothing behind its header is a frame of ours:
            # what looks like one there was sent by a client.
            good = None
        else:
            good = next_frame(data, 1)
        if good is not None:
            self._pass(self.offset + good)
        elif later is not None:
            self._pass(later)
        elif sealed:
            self._pass(self.offset + len(data))
            self.ended = True

    def _pass(self, end: int) -> None:
        if end > self.offset:
            self.damages.append(Damage(self.writer_id, self.offset, end))
            self.offset = end

    def _bytes(self, segment_start: int, size: int) -> memoryview:
        with (self.folder / segment_name(segment_start)).open("rb", buffering=0) as file:
            file.seek(self.offset - segment_start)
            return memoryview(file.read(size) or b"")
