"""How far each registration's shadow has come in each journal, read back from its own frames.

The frames are the cursor. The file beside them only says how far they had been read when it
was written, so that a restart does not begin at the first frame of all time; an older file,
or none, costs time and nothing else.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from gateway.core.records import Record, ShadowRecord
from gateway.errors import CorruptJournal
from gateway.journal.reader import JournalTail, writer_ids

Cursor = dict[str, int]  # source writer → the end of its last frame that was done


class _Saved(msgspec.Struct):
    read: dict[str, int] = {}
    cursors: dict[str, Cursor] = {}
    finished: set[str] = set()


class Cursors:
    """The cursors of all registrations, by endpoint and registration number."""

    def __init__(self, root: Path) -> None:
        """Read what is saved below `root`, the folder of the shadow journals."""
        self._root = root
        self._saved = _load(root / _NAME)
        self._written = dict(self._saved.read)

    def catch_up(self) -> None:
        """Read the frames that were written since the file was."""
        for writer_id in writer_ids(self._root):
            tail = JournalTail(self._root / writer_id, offset=self._saved.read.get(writer_id, 0))
            # Behind a frame of another release nothing is known to be done: it is run again.
            with suppress(CorruptJournal):
                for entry in tail.drain():
                    self.note(entry.record)
            self._saved.read[writer_id] = tail.offset

    def note(self, record: Record) -> None:
        """Move the cursor to where a shadow frame says that it is; other records move none."""
        if not isinstance(record, ShadowRecord):
            return
        key = _key(record.endpoint, record.registration)
        cursor = self._saved.cursors.setdefault(key, {})
        before = cursor.get(record.source_writer, 0)
        cursor[record.source_writer] = max(before, record.source_end)

    def of(self, endpoint: str, registration: int) -> Cursor:
        """A copy of a registration's cursor; empty before its first frame."""
        return dict(self._saved.cursors.get(_key(endpoint, registration), {}))

    def finish(self, endpoint: str, registration: int) -> None:
        """A closed registration has no run left to do."""
        self._saved.finished.add(_key(endpoint, registration))

    def is_finished(self, endpoint: str, registration: int) -> bool:
        """Whether `finish` was said of it, now or before a restart."""
        return _key(endpoint, registration) in self._saved.finished

    @property
    def read(self) -> dict[str, int]:
        """How far each shadow journal is contained in the file on the disk."""
        return self._written

    def save(self, read: dict[str, int]) -> None:
        """Write the file durably; `read` is how far each journal is contained in it."""
        shadows = {name: end for name, end in read.items() if (self._root / name).is_dir()}
        self._saved.read = {**self._saved.read, **shadows}
        beside = self._root / f".new-{_NAME}"
        with beside.open("wb") as file:
            file.write(msgspec.json.encode(self._saved))
            file.flush()
            # Frames that it contains may be let go: then it is all that is left of them.
            os.fsync(file.fileno())
        beside.rename(self._root / _NAME)
        self._written = dict(self._saved.read)


_NAME = ".cursors.json"


def _key(endpoint: str, registration: int) -> str:
    return f"{endpoint}/{registration}"


def _load(path: Path) -> _Saved:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Saved)
    except (FileNotFoundError, msgspec.DecodeError):
        return _Saved()
