"""Reading journals: everything good, in order, once; whatever is not, reported."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from gateway.core.records import TensorRecord, encode
from gateway.errors import CorruptJournal
from gateway.journal import reader
from gateway.journal.frames import HEADER_BYTES, seal
from gateway.journal.reader import (
    Damage,
    JournalTail,
    end_offset,
    is_sealed,
    live_writers,
    writer_ids,
)
from tests.archive.records import prediction
from tests.journal.files import damage, ids, numbered, open_writer, segment, write


def frame(payload: bytes) -> bytes:
    buffer = bytearray(HEADER_BYTES) + payload
    seal(buffer)
    return bytes(buffer)


def test_what_was_appended_is_read_in_order_with_its_offset(tmp_path: Path) -> None:
    """Every record comes once, each with the offset behind it and its sequence number."""
    ends = write(tmp_path, *numbered(5))
    entries = list(JournalTail(tmp_path / "w1").drain())
    assert [entry.end for entry in entries] == ends
    assert [entry.record.sequence for entry in entries] == [0, 1, 2, 3, 4]
    assert [entry.record.prediction_id for entry in entries] == ["0", "1", "2", "3", "4"]


def test_reading_goes_on_from_any_offset(tmp_path: Path) -> None:
    """A tail that begins at the end of a record gives what stands behind it."""
    ends = write(tmp_path, *numbered(5), segment_bytes=200)
    for done, end in enumerate(ends):
        assert (
            ids(JournalTail(tmp_path / "w1", offset=end)) == ["0", "1", "2", "3", "4"][done + 1 :]
        )


def test_a_live_journal_is_followed_as_it_grows(tmp_path: Path) -> None:
    """A tail that has reached the end gives what is appended later, over segments too."""
    writer = open_writer(tmp_path, segment_bytes=400)
    tail = JournalTail(tmp_path / "w1")
    assert tail.read() == []
    for one in numbered(9):
        writer.append(one)
        assert ids(tail) == [one.prediction_id]
    assert not tail.ended
    writer.close()
    assert tail.read() == [] and tail.ended
    assert tail.damages == []


def test_a_torn_end_of_a_living_writer_is_waited_for(tmp_path: Path) -> None:
    """However much of the last frame is there, it is neither read nor passed until it is whole."""
    root = tmp_path / "whole"
    ends = write(root, *numbered(3))
    content = segment(root).read_bytes()
    writer = open_writer(tmp_path / "torn")
    path = segment(tmp_path / "torn")
    for length in range(ends[1], ends[2]):
        path.write_bytes(content[:length])
        tail = JournalTail(tmp_path / "torn" / "w1")
        assert ids(tail) == ["0", "1"]
        assert (tail.offset, tail.damages) == (ends[1], [])
        path.write_bytes(content)
        assert ids(tail) == ["2"]
    writer.close()


def test_a_torn_end_of_a_dead_writer_is_passed_and_reported(tmp_path: Path) -> None:
    """Wherever the last frame was cut, the rest is read and the bytes behind it are named."""
    ends = write(tmp_path, *numbered(3))
    content = segment(tmp_path).read_bytes()
    for length in range(ends[1] + 1, ends[2]):
        segment(tmp_path).write_bytes(content[:length])
        tail = JournalTail(tmp_path / "w1")
        assert ids(tail) == ["0", "1"]
        assert tail.damages == [Damage("w1", ends[1], length)]
        assert tail.offset == length and tail.ended


@pytest.mark.parametrize("alive", [True, False])
@pytest.mark.parametrize("at", range(0, 40, 3))
def test_damage_in_the_middle_costs_one_record(tmp_path: Path, at: int, *, alive: bool) -> None:
    """Whichever byte of a frame is damaged, the record behind it is read and the gap reported.

    (A length that became larger than the journal is the next test's.)
    """
    writer = open_writer(tmp_path)
    ends = [writer.append(one) for one in numbered(3)]
    if not alive:
        writer.close()
    damage(segment(tmp_path), ends[0] + at)
    if 4 <= at < 8:
        return
    tail = JournalTail(tmp_path / "w1")
    assert ids(tail) == ["0", "2"]
    assert tail.damages == [Damage("w1", ends[0], ends[1])]
    if alive:
        writer.close()


def test_a_damaged_length_is_passed_once_the_segment_is_full(tmp_path: Path) -> None:
    """A length that promises too much holds a reader up only in the newest segment."""
    writer = open_writer(tmp_path, segment_bytes=300)
    ends = [writer.append(one) for one in numbered(2)]
    damage(segment(tmp_path), ends[0] + 6)
    tail = JournalTail(tmp_path / "w1")
    assert ids(tail) == ["0"]
    for number in range(2, 6):
        writer.append(prediction(str(number)))
    assert ids(tail) == ["2", "3", "4", "5"]
    writer.close()


@pytest.mark.parametrize("alive", [True, False])
def test_what_a_client_sent_is_never_taken_for_a_record(tmp_path: Path, *, alive: bool) -> None:
    """A frame inside a client's text is not read, also where the frame around it is torn."""
    forged = frame(encode(prediction("forged")))
    sent = TensorRecord("x", "BYTES", (1,), forged)
    writer = open_writer(tmp_path)
    writer.append(prediction("before"))
    writer.append(prediction("around", inputs=[sent], error="x" * 500))
    if not alive:
        writer.close()
    path = segment(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(forged) + len(forged)])
    assert ids(JournalTail(tmp_path / "w1")) == ["before"]
    if alive:
        path.write_bytes(whole)
        assert ids(JournalTail(tmp_path / "w1")) == ["before", "around"]
        writer.close()


def test_a_frame_larger_than_a_chunk_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks are how files are read, not how large a record may be."""
    monkeypatch.setattr(reader, "CHUNK_BYTES", 256)
    write(tmp_path, *numbered(2), *numbered(2, padding=5000), *numbered(1))
    tail = JournalTail(tmp_path / "w1")
    assert ids(tail) == ["0", "1", "0", "1", "0"]
    assert tail.damages == []


@pytest.mark.parametrize("alive", [True, False])
def test_damage_longer_than_a_chunk_costs_no_record_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, alive: bool
) -> None:
    """A frame that lies across the end of the chunk with the damage is found all the same."""
    monkeypatch.setattr(reader, "CHUNK_BYTES", 256)
    for padding in range(60, 260, 7):
        root = tmp_path / str(padding)
        writer = open_writer(root)
        first = writer.append(prediction("0", error="x" * padding))
        for one in ("1", "2", "3"):
            writer.append(prediction(one))
        if not alive:
            writer.close()
        damage(segment(root), 0, first)
        assert ids(JournalTail(root / "w1")) == ["1", "2", "3"]
        if alive:
            writer.close()


def test_a_segment_that_ends_early_leaves_a_reported_gap(tmp_path: Path) -> None:
    """What a file system lost at the end of an older segment is passed and named."""
    ends = write(tmp_path, *numbered(6), segment_bytes=200)
    first = segment(tmp_path)
    size = first.stat().st_size
    kept = [end for end in ends if end < size]
    with first.open("r+b") as file:
        file.truncate(kept[-1])
    tail = JournalTail(tmp_path / "w1")
    lost = len(kept)
    assert ids(tail) == [str(n) for n in range(6) if n != lost]
    assert tail.damages == [Damage("w1", kept[-1], size)]


def test_segments_that_are_gone_are_passed_and_reported(tmp_path: Path) -> None:
    """A journal whose oldest segments were deleted is read from the first that is there."""
    ends = write(tmp_path, *numbered(6), segment_bytes=200)
    size = segment(tmp_path).stat().st_size
    segment(tmp_path).unlink()
    tail = JournalTail(tmp_path / "w1")
    assert ids(tail) == [str(n) for n, end in enumerate(ends) if end > size]
    assert tail.damages == [Damage("w1", 0, size)]


def test_a_record_of_another_release_stops_the_reader_in_front_of_it(tmp_path: Path) -> None:
    """What stands before it is given first; nothing behind it is, however often one asks."""
    ends = write(tmp_path, *numbered(2))
    strange = frame(msgspec.msgpack.encode(["z", 1, 2]))
    with segment(tmp_path).open("ab") as file:
        file.write(strange + frame(encode(prediction("2"))))
    tail = JournalTail(tmp_path / "w1")
    assert [entry.record.prediction_id for entry in tail.read()] == ["0", "1"]
    for _ in range(2):
        with pytest.raises(CorruptJournal, match=f"at offset {ends[1]} .*release that wrote it"):
            tail.read()
        assert tail.offset == ends[1]


def test_folders_in_the_making_are_no_journals(tmp_path: Path) -> None:
    """A directory that its writer has not locked yet does not exist for readers."""
    write(tmp_path, *numbered(1))
    shutil.copytree(tmp_path / "w1", tmp_path / ".new-w2")
    (tmp_path / ".cursors.json").write_text("{}")
    assert writer_ids(tmp_path) == ["w1"]
    assert writer_ids(tmp_path / "nowhere") == []


def test_a_journal_is_sealed_when_its_writer_is_gone(tmp_path: Path) -> None:
    """The lock alone says who lives, and asking does not take it from anybody."""
    writer = open_writer(tmp_path)
    assert not is_sealed(tmp_path / "w1")
    assert live_writers(tmp_path) == {"w1"}
    writer.close()
    assert is_sealed(tmp_path / "w1")
    assert live_writers(tmp_path) == set()


def test_the_end_counts_over_all_segments(tmp_path: Path) -> None:
    """The end of a journal is the offset behind its last record, 0 before its first."""
    (tmp_path / "none").mkdir()
    assert end_offset(tmp_path / "none") == 0
    assert end_offset(tmp_path / "w1") == 0
    ends = write(tmp_path, *numbered(7), segment_bytes=300)
    assert end_offset(tmp_path / "w1") == ends[-1]
