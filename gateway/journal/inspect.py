"""What an operator asks of journals on disk: how much there is, and whether it is whole."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from gateway.core.records import PredictionRecord, Record
from gateway.errors import CorruptJournal
from gateway.journal.reader import (
    JournalTail,
    end_offset,
    is_sealed,
    let_go_until,
    segment_starts,
    writer_ids,
)


class JournalStats(msgspec.Struct):
    """One journal. `lost_records` are missing sequence numbers between the first and last.

    `let_go_bytes` are those of its beginning that retention has deleted.
    """

    writer_id: str
    alive: bool
    segments: int
    size_bytes: int
    records: dict[str, int]
    rows: int
    accepted_rows: int
    damaged_bytes: int
    lost_records: int
    let_go_bytes: int
    problem: str = ""


def stats(root: Path) -> list[JournalStats]:
    """Every journal under `root`, read from its first byte."""
    return [_stats(root / writer_id) for writer_id in writer_ids(root)]


def problems(found: list[JournalStats]) -> list[str]:
    """What `audition journal verify` complains of; empty when every journal is whole."""
    lines = []
    for one in found:
        if one.problem:
            lines.append(f"{one.writer_id}: {one.problem}")
        if one.damaged_bytes:
            lines.append(f"{one.writer_id}: {one.damaged_bytes} bytes hold no good frame")
        if one.lost_records:
            lines.append(f"{one.writer_id}: {one.lost_records} records are missing")
    return lines


def _stats(folder: Path) -> JournalStats:
    tail = JournalTail(folder)
    found = JournalStats(
        writer_id=folder.name,
        alive=not is_sealed(folder),
        segments=len(segment_starts(folder)),
        size_bytes=end_offset(folder),
        records={},
        rows=0,
        accepted_rows=0,
        damaged_bytes=0,
        lost_records=0,
        let_go_bytes=let_go_until(folder),
    )
    kinds: Counter[str] = Counter()
    expected: int | None = None if found.let_go_bytes else 0
    try:
        for entry in tail.drain():
            kinds[type(entry.record).__name__] += 1
            if expected is not None:
                found.lost_records += max(0, entry.record.sequence - expected)
            expected = entry.record.sequence + 1
            _count_rows(found, entry.record)
    except CorruptJournal as error:
        found.problem = str(error)
    found.records = dict(sorted(kinds.items()))
    found.damaged_bytes = sum(d.end - d.start for d in tail.damages)
    return found


def _count_rows(found: JournalStats, record: Record) -> None:
    if isinstance(record, PredictionRecord):
        found.rows += record.rows
        found.accepted_rows = max(found.accepted_rows, record.accepted_rows)
