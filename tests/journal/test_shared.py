"""Journals that several read: each sees every entry once, whoever decoded it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.journal import shared
from gateway.journal.reader import JournalTail
from gateway.journal.shared import Piece, SharedJournals
from gateway.journal.writer import JournalWriter
from tests.archive.records import prediction


@pytest.fixture
def writer(tmp_path: Path) -> JournalWriter:
    """The writer of a journal that grows."""
    return JournalWriter(tmp_path, writer_id="w1")


def ids(piece: Piece) -> list[str]:
    """The predictions of a piece."""
    return [getattr(entry.record, "prediction_id", "") for entry in piece.entries]


def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often a journal was read from the disk since."""
    reads: list[int] = []

    class Tail(JournalTail):
        def read(self) -> list[shared.Entry]:
            reads.append(self.offset)
            return super().read()

    monkeypatch.setattr(shared, "JournalTail", Tail)
    return lambda: len(reads)


def test_the_second_reader_is_given_the_same_records(
    tmp_path: Path, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoded once, though the journal has grown since."""
    writer.append_all([prediction(f"p{n}") for n in range(3)])
    reads, journals = counted(monkeypatch), SharedJournals(tmp_path)
    first = journals.read("w1", 0)
    writer.append(prediction("p3"))
    again = journals.read("w1", 0)
    assert ids(first) == ["p0", "p1", "p2"] == ids(again)
    assert again.entries[0].record is first.entries[0].record
    assert reads() == 1
    assert ids(journals.read("w1", first.end)) == ["p3"]


def test_a_reader_that_began_elsewhere_gets_the_rest_of_a_piece(
    tmp_path: Path, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And both go on at the same offset from then on."""
    ends = [writer.append(prediction(f"p{n}")) for n in range(4)]
    reads, journals = counted(monkeypatch), SharedJournals(tmp_path)
    whole = journals.read("w1", 0)
    rest = journals.read("w1", ends[1])
    assert ids(rest) == ["p2", "p3"] and rest.end == whole.end == ends[3]
    assert reads() == 1


def test_nothing_new_is_an_empty_piece(tmp_path: Path, writer: JournalWriter) -> None:
    """And what comes later is found at the same place."""
    end = writer.append(prediction("p0"))
    journals = SharedJournals(tmp_path)
    assert journals.read("w1", end) == Piece([], end, end)
    writer.append(prediction("p1"))
    assert ids(journals.read("w1", end)) == ["p1"]


def test_an_ended_journal_is_looked_at_no_more(
    tmp_path: Path, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer is gone and everything was read."""
    end = writer.append(prediction("p0"))
    writer.close()
    reads, journals = counted(monkeypatch), SharedJournals(tmp_path)
    assert ids(journals.read("w1", 0)) == ["p0"]
    for _ in range(5):
        assert journals.read("w1", end).entries in ([], ())
    assert reads() == 2


def test_few_pieces_are_kept(
    tmp_path: Path, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for longest ago is read again."""
    monkeypatch.setattr(shared, "_PIECES", 2)
    reads, journals, starts = counted(monkeypatch), SharedJournals(tmp_path), [0]
    for number in range(3):
        starts.append(writer.append(prediction(f"p{number}")))
        assert ids(journals.read("w1", starts[-2])) == [f"p{number}"]
    assert ids(journals.read("w1", starts[2])) == ["p2"]
    assert reads() == 3
    assert "p0" in ids(journals.read("w1", 0))
    assert reads() == 4
