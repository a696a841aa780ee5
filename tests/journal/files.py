"""Journals as their writer leaves them, and what a fault makes of their files."""

from __future__ import annotations

from pathlib import Path

from gateway.core.records import PredictionRecord
from gateway.journal.reader import JournalTail, segment_starts
from gateway.journal.writer import JournalWriter, segment_name
from tests.archive.records import prediction


def open_writer(root: Path, *, segment_bytes: int = 64 << 20) -> JournalWriter:
    """A writer `w1` below `root`."""
    return JournalWriter(root, writer_id="w1", segment_bytes=segment_bytes)


def write(root: Path, *predictions: PredictionRecord, segment_bytes: int = 64 << 20) -> list[int]:
    """A sealed journal `w1` of these records; the offsets behind them."""
    writer = open_writer(root, segment_bytes=segment_bytes)
    ends = [writer.append(one) for one in predictions]
    writer.close()
    return ends


def numbered(count: int, *, padding: int = 0) -> list[PredictionRecord]:
    """Records `0`, `1`, …, each larger by `padding` bytes."""
    return [prediction(str(n), error="x" * padding) for n in range(count)]


def segment(root: Path, number: int = 0) -> Path:
    """The file of a segment of `w1`."""
    folder = root / "w1"
    return folder / segment_name(segment_starts(folder)[number])


def damage(path: Path, at: int, size: int = 1) -> None:
    """Turn every bit of `size` bytes at `at`."""
    content = bytearray(path.read_bytes())
    content[at : at + size] = bytes(byte ^ 0xFF for byte in content[at : at + size])
    path.write_bytes(content)


def ids(tail: JournalTail) -> list[str]:
    """The prediction ids of everything that can be read now."""
    return [entry.record.prediction_id for entry in tail.drain()]
