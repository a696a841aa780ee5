"""Old segments go, from the beginning, and nobody takes that for damage."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gateway.journal import retention
from gateway.journal.inspect import problems, stats
from gateway.journal.reader import JournalTail, end_offset, segment_starts, writer_ids
from gateway.journal.retention import let_go, overdue
from tests.journal.files import ids, numbered, open_writer, segment, write

DAY_US = 86_400_000_000
NOW_US = 100 * DAY_US


def _aged(root: Path, *days: int) -> None:
    """Say of each segment how many days ago it was written."""
    for number, age in enumerate(days):
        at_s = (NOW_US - age * DAY_US) / 1e6
        os.utime(segment(root, number), (at_s, at_s))


def _overdue(root: Path, *, days: int = 1000, keep_bytes: int = 1 << 40) -> dict[str, int]:
    return overdue([root], keep_us=days * DAY_US, keep_bytes=keep_bytes, now_us=NOW_US)


def test_a_segment_is_overdue_by_its_age(tmp_path: Path) -> None:
    """The offset is the end of the last one that is older than is to be kept."""
    ends = write(tmp_path, *numbered(4), segment_bytes=1)
    _aged(tmp_path, 9, 5, 2, 0, 0)
    assert _overdue(tmp_path, days=10) == {}
    assert _overdue(tmp_path, days=3) == {"w1": ends[1]}


def test_what_is_too_much_is_overdue_oldest_first(tmp_path: Path) -> None:
    """All journals together may take so many bytes."""
    ends = write(tmp_path, *numbered(4), segment_bytes=1)
    _aged(tmp_path, 4, 3, 2, 1, 0)
    assert _overdue(tmp_path, keep_bytes=ends[-1]) == {}
    assert _overdue(tmp_path, keep_bytes=ends[-1] - 1) == {"w1": ends[0]}
    assert _overdue(tmp_path, keep_bytes=ends[-1] - ends[0] - 1) == {"w1": ends[1]}


def test_the_segment_that_is_written_stays(tmp_path: Path) -> None:
    """However old it is: its writer goes on in it."""
    writer = open_writer(tmp_path)
    writer.append(numbered(1)[0])
    _aged(tmp_path, 50)
    assert _overdue(tmp_path, days=1, keep_bytes=0) == {}
    writer.close()
    assert _overdue(tmp_path, days=1) == {"w1": writer.offset}


def test_what_was_let_go_is_no_damage(tmp_path: Path) -> None:
    """A reader begins behind it without a word, and `journal verify` finds the journal whole."""
    ends = write(tmp_path, *numbered(4), segment_bytes=1)
    let_go([tmp_path], {"w1": ends[1]})
    tail = JournalTail(tmp_path / "w1")
    assert ids(tail) == ["2", "3"]
    assert tail.damages == []
    (found,) = stats(tmp_path)
    assert (found.let_go_bytes, found.lost_records) == (ends[1], 0)
    assert problems([found]) == []
    assert ids(JournalTail(tmp_path / "w1", offset=ends[2])) == ["3"]


def test_a_beginning_that_nobody_let_go_is_damage(tmp_path: Path) -> None:
    """A segment that is simply gone is reported, beside one that retention took."""
    ends = write(tmp_path, *numbered(4), segment_bytes=1)
    let_go([tmp_path], {"w1": ends[0]})
    segment(tmp_path).unlink()
    tail = JournalTail(tmp_path / "w1")
    assert ids(tail) == ["2", "3"]
    assert [(one.start, one.end) for one in tail.damages] == [(ends[0], ends[1])]


def test_half_a_segment_stays(tmp_path: Path) -> None:
    """Only what ends by then goes."""
    ends = write(tmp_path, *numbered(4), segment_bytes=1)
    let_go([tmp_path], {"w1": ends[1] - 1})
    assert segment_starts(tmp_path / "w1")[0] == ends[0]


def test_a_sealed_journal_without_anything_left_is_gone(tmp_path: Path) -> None:
    """Folder and all; one whose writer lives stays."""
    ends = write(tmp_path, *numbered(2))
    let_go([tmp_path], {"w1": ends[-1]})
    assert writer_ids(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    assert end_offset(tmp_path / "w1") == 0


@pytest.mark.parametrize("cut_at", ["noted", "renamed"])
def test_a_deletion_that_was_cut_off_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_at: str
) -> None:
    """Killed after the note or before the folder was empty, the next time does the rest."""
    ends = write(tmp_path, *numbered(4), segment_bytes=1)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", cut) if cut_at == "noted" else None
        patched.setattr(shutil, "rmtree", cut)
        with pytest.raises(KeyboardInterrupt):
            let_go([tmp_path], {"w1": ends[-1]})
    if cut_at == "noted":
        assert ids(JournalTail(tmp_path / "w1")) == ["0", "1", "2", "3"]
    let_go([tmp_path], {"w1": ends[-1]})
    assert list(tmp_path.iterdir()) == []
    assert retention.overdue([tmp_path], keep_us=0, keep_bytes=0, now_us=NOW_US) == {}
