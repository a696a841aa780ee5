"""What operators are told of journals: how much there is, and what is wrong."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.journal.frames import HEADER_BYTES, seal
from gateway.journal.inspect import problems, stats
from tests.archive.records import label, labels, prediction, shadow
from tests.journal.files import damage, numbered, open_writer, segment, write


def test_every_record_is_counted_by_its_kind(tmp_path: Path) -> None:
    """Kinds, rows, accepted rows, segments, bytes; and whether the writer lives."""
    writer = open_writer(tmp_path, segment_bytes=200)
    writer.append(prediction("0", rows=3, accepted_rows=3))
    writer.append(prediction("1", rows=2, accepted_rows=5))
    writer.append(shadow("0"))
    end = writer.append(labels(label("0", 1.0)))
    (one,) = stats(tmp_path)
    assert one.alive
    assert one.records == {"LabelsRecord": 1, "PredictionRecord": 2, "ShadowRecord": 1}
    assert (one.rows, one.accepted_rows, one.size_bytes) == (5, 5, end)
    assert one.segments > 1
    assert problems([one]) == []
    writer.close()
    assert not stats(tmp_path)[0].alive


def test_lost_and_damaged_records_are_named(tmp_path: Path) -> None:
    """A damaged frame is bytes without a good frame and a gap in the sequence."""
    ends = write(tmp_path, *numbered(4))
    damage(segment(tmp_path), ends[0] + 20)
    (one,) = stats(tmp_path)
    assert (one.damaged_bytes, one.lost_records) == (ends[1] - ends[0], 1)
    assert problems([one]) == [
        f"w1: {one.damaged_bytes} bytes hold no good frame",
        "w1: 1 records are missing",
    ]


def test_a_lost_first_record_is_missed(tmp_path: Path) -> None:
    """Sequence numbers begin at 0, so that the first record can be missing too."""
    write(tmp_path, *numbered(3))
    damage(segment(tmp_path), 0)
    (one,) = stats(tmp_path)
    assert one.lost_records == 1


def test_a_record_of_another_release_is_a_problem(tmp_path: Path) -> None:
    """It is named, and what stands before it is counted."""
    write(tmp_path, *numbered(2))
    strange = bytearray(HEADER_BYTES) + msgspec.msgpack.encode(["z"])
    seal(strange)
    with segment(tmp_path).open("ab") as file:
        file.write(strange)
    (one,) = stats(tmp_path)
    assert one.records == {"PredictionRecord": 2}
    assert "no record of this release" in problems([one])[0]


def test_no_journals_are_no_problem(tmp_path: Path) -> None:
    """A folder that is empty, or not there, has nothing wrong."""
    assert stats(tmp_path) == stats(tmp_path / "nowhere") == []
