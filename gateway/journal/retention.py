"""Letting old segments go: which are past their keep, and taking them away.

Rules: only the oldest segments of a journal go, never the one that is written, so what is
missing is always its beginning; how much that is stands in the file `let-go` before a byte
is deleted, and readers pass over it without a word. A sealed journal that has nothing left
goes as a whole. Whether everybody has read a segment is not known here: the caller says how
far each journal may go.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.journal.reader import LET_GO, is_sealed, segment_starts, writer_ids
from gateway.journal.writer import segment_name

_GONE = ".gone-"


class Segment(NamedTuple):
    """A segment that is written no more; `end` is the offset behind its last byte."""

    folder: Path
    start: int
    end: int
    written_at_us: int  # when its last byte was

    @property
    def size_bytes(self) -> int:
        """How much room it takes."""
        return self.end - self.start

    @property
    def path(self) -> Path:
        """Its file."""
        return self.folder / segment_name(self.start)


def overdue(roots: Sequence[Path], *, keep_us: int, keep_bytes: int, now_us: int) -> dict[str, int]:
    """By journal, the offset up to which it is older, or more, than is to be kept.

    `keep_bytes` is for all journals together; the segments written first go first.
    """
    segments = sorted(
        (one for root in roots for one in _finished(root)), key=lambda one: one.written_at_us
    )
    held_bytes = sum(_size_bytes(root) for root in roots)
    ends: dict[str, int] = {}
    for segment in segments:
        if held_bytes <= keep_bytes and now_us - segment.written_at_us <= keep_us:
            break
        held_bytes -= segment.size_bytes
        ends[segment.folder.name] = segment.end
    return ends


def let_go(roots: Sequence[Path], ends: Mapping[str, int]) -> None:
    """Delete the segments that end at or before their journal's offset in `ends`."""
    for root in roots:
        for folder in root.glob(f"{_GONE}*"):
            shutil.rmtree(folder)  # a deletion that was cut off
        for segment in _finished(root):
            if segment.end <= ends.get(segment.folder.name, 0):
                _note(segment.folder, segment.end)
                segment.path.unlink()
        for writer_id in ends:
            _remove_empty(root, writer_id)


def _finished(root: Path) -> Iterable[Segment]:
    for writer_id in writer_ids(root):
        folder = root / writer_id
        # Ask before looking: what is listed after a journal was sealed is all there will be.
        sealed = is_sealed(folder)
        starts = segment_starts(folder)
        for start in starts if sealed else starts[:-1]:
            found = (folder / segment_name(start)).stat()
            yield Segment(folder, start, start + found.st_size, found.st_mtime_ns // 1000)


def _size_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.glob("*/*.seg"))


def _note(folder: Path, end: int) -> None:
    """Say durably that the journal begins at `end` now."""
    beside = folder / f".new-{LET_GO}"
    with beside.open("wb") as file:
        file.write(str(end).encode())
        file.flush()
        os.fsync(file.fileno())
    beside.rename(folder / LET_GO)


def _remove_empty(root: Path, writer_id: str) -> None:
    folder = root / writer_id
    if folder.is_dir() and is_sealed(folder) and not segment_starts(folder):
        gone = folder.rename(root / f"{_GONE}{writer_id}")
        shutil.rmtree(gone)
