"""From the journals into the archive: every record of every writer, in order, once.

Rules: reading never waits for the disk of the archive and never runs far ahead of it. What
cannot be read or written is said in `problems` and tried again; one journal that cannot be
read holds up no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gateway.archive.writer import ArchiveWriter
from gateway.core.records import Record
from gateway.errors import CorruptJournal
from gateway.journal.reader import Damage, JournalTail, end_offset, writer_ids
from gateway.journal.tally import read_tally

_QUIET_FLUSH_S = 0.1
_FLUSH_RECORDS = 20_000
#: With so many records unwritten the disk must be refusing them.
_MOST_PENDING = 10 * _FLUSH_RECORDS


class Intake:
    """Follows the journals below `roots`. Use it in one thread."""

    def __init__(
        self,
        roots: Sequence[Path],
        archive: ArchiveWriter,
        *,
        sinks: Iterable[Callable[[Record], None]],
        flush_every_s: float,
    ) -> None:
        """`sinks` are handed every record that is read, also one that is archived already."""
        self._roots = tuple(roots)
        self._archive = archive
        self._sinks = tuple(sinks)
        self._flush_every_s = flush_every_s
        self._flushed_at = 0.0
        self._tails: dict[Path, JournalTail] = {}
        #: How far each journal has been read, all of it being in the archive.
        self.archived: dict[str, int] = {}
        #: What cannot be read or written now, by journal ("" is the archive itself).
        self.problems: dict[str, str] = {}

    @property
    def sequence(self) -> int:
        """Another number, other contents of the archive."""
        return self._archive.sequence

    @property
    def lost_rows(self) -> int:
        """How many rows workers accepted that are in no journal, as far as is known."""
        return self._archive.lost_rows

    @property
    def damages(self) -> list[Damage]:
        """Bytes of journals that hold no good frame."""
        return [damage for tail in self._tails.values() for damage in tail.damages]

    def has_archived(self, ends: dict[str, int]) -> bool:
        """Whether every journal is in the archive up to its offset in `ends`."""
        return all(self.archived.get(writer_id, 0) >= end for writer_id, end in ends.items())

    def read(self) -> bool:
        """Take the next records of every journal; whether there were any."""
        if self._archive.pending >= _MOST_PENDING:
            return False
        tails = [self._tail(root / name) for root in self._roots for name in writer_ids(root)]
        progressed = [self._read_one(tail) for tail in tails]
        self._note_archived()
        return any(progressed)

    def flush(self, *, idle: bool) -> bool:
        """Write what was read, if it is time to; whether it was written."""
        pending = self._archive.pending
        age_s = time.monotonic() - self._flushed_at
        due = age_s >= self._flush_every_s or (idle and age_s >= _QUIET_FLUSH_S)
        if not self._archive.is_dirty or not (due or pending >= _FLUSH_RECORDS):
            return False
        self._flushed_at = time.monotonic()
        try:
            self._archive.flush()
        except OSError as error:
            self.problems[""] = f"the archive cannot be written: {error.strerror or error}"
            return False
        self.problems.pop("", None)
        self._note_archived()
        return True

    def _tail(self, folder: Path) -> JournalTail:
        if folder not in self._tails:
            start = self._archive.covered.get(folder.name, 0)
            self._tails[folder] = JournalTail(folder, offset=start)
        return self._tails[folder]

    def _read_one(self, tail: JournalTail) -> bool:
        before = tail.offset
        try:
            # In this order: a record from before the tally lies before the end.
            tally = read_tally(tail.folder)
            end = 0 if tally is None else end_offset(tail.folder)
            entries = tail.read()
        except (CorruptJournal, OSError) as error:
            self.problems[tail.writer_id] = str(error)
            return False
        self.problems.pop(tail.writer_id, None)
        for entry in entries:
            self._archive.append(tail.writer_id, entry.end, entry.record)
            for sink in self._sinks:
                sink(entry.record)
        if tally is not None and tail.offset >= end:
            self._archive.note_tally(
                tail.writer_id, accepted_rows=tally.accepted_rows, at_us=tally.at_us
            )
        return tail.offset != before

    def _note_archived(self) -> None:
        # Not the archive's own `covered`: that ends with the last good frame of a journal, and
        # behind it there may be bytes that hold none.
        if not self._archive.pending:
            self.archived = {tail.writer_id: tail.offset for tail in self._tails.values()}
