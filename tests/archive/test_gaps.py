"""Rows that are in no journal: found from the counts of their writer, and counted once."""

from __future__ import annotations

from pathlib import Path

from gateway.archive.gaps import Gap, RowCounts, unrecorded_rows
from gateway.archive.intake import Intake
from gateway.archive.manifest import Manifest, load
from gateway.archive.objects import Folder
from gateway.archive.writer import ArchiveWriter
from gateway.journal.writer import JournalWriter
from tests.archive.records import prediction

WRITER = "a" * 12
S = 1_000_000


class Scene:
    """One journal, and the intake that archives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = JournalWriter(folder / "journal", writer_id=WRITER)
        self.sent = self.accepted = 0

    def record(self, *, rows: int = 1, at_s: int = 1) -> None:
        """Accept rows and journal them."""
        self.sent += 1
        self.accepted += rows
        self.journal.append(
            prediction(
                f"{self.sent:032x}",
                rows=rows,
                accepted_rows=self.accepted,
                accepted_at_us=at_s * S,
            )
        )

    def serve_unrecorded(self, *, rows: int) -> None:
        """Accept rows that the journal has no room for, as the data plane does."""
        self.accepted += rows
        self.journal.count_unrecorded(self.accepted)

    def archive(self) -> Manifest:
        """What an Evaluator that just started makes of it."""
        intake = Intake(
            [self.folder / "journal"],
            ArchiveWriter(self.folder / "archive"),
            sinks=[],
            flush_every_s=0,
        )
        while intake.read():
            pass
        intake.flush(idle=True)
        return load(Folder(self.folder / "archive"))


def lost(manifest: Manifest, *, since_s: int = 0) -> int:
    return unrecorded_rows(manifest.gaps, since_us=since_s * S)


def test_a_journal_without_gaps_has_lost_nothing(tmp_path: Path) -> None:
    """Also where it is read in pieces, by one Evaluator after the other."""
    scene = Scene(tmp_path)
    for rows in (1, 3, 2):
        scene.record(rows=rows)
        assert lost(scene.archive()) == 0


def test_rows_without_a_record_show_before_the_next_one(tmp_path: Path) -> None:
    """Once, however often the Evaluator is started anew; and not to whom came later."""
    scene = Scene(tmp_path)
    scene.record(rows=2, at_s=100)
    scene.accepted += 7  # whatever became of them, they are in no frame
    scene.record(at_s=200)
    assert lost(scene.archive()) == 7
    scene.record(at_s=300)
    assert lost(scene.archive()) == 7
    assert lost(scene.archive(), since_s=150) == 7
    assert lost(scene.archive(), since_s=250) == 0


def test_a_lost_frame_is_a_gap(tmp_path: Path) -> None:
    """A record whose bytes went bad is missed by its rows."""
    scene = Scene(tmp_path)
    scene.record(rows=2)
    begin = scene.journal.offset
    scene.record(rows=5)
    scene.record(rows=1)
    (segment,) = (tmp_path / "journal" / WRITER).glob("*.seg")
    with segment.open("r+b") as file:
        file.seek(begin + 40)
        file.write(b"\xff\xff\xff")
    assert lost(scene.archive()) == 5


def test_rows_behind_the_last_record_show_by_the_tally(tmp_path: Path) -> None:
    """Whose writer was killed before it could write another record; once, though the next
    record of a writer that lives on would show the same rows again."""
    scene = Scene(tmp_path)
    scene.record(rows=2)
    scene.serve_unrecorded(rows=3)
    scene.serve_unrecorded(rows=4)
    assert lost(scene.archive()) == 7
    assert lost(scene.archive()) == 7
    scene.serve_unrecorded(rows=1)
    scene.record(rows=1)
    assert lost(scene.archive()) == 8
    scene.journal.close()
    assert lost(scene.archive()) == 8


def test_counting_begins_where_an_older_release_kept_no_counts(tmp_path: Path) -> None:
    """An archive that was written without them says nothing of what came before."""
    counts = RowCounts({}, ["old"])
    counts.note("old", accepted_rows=50, rows=1, at_us=1)
    assert not counts.found
    counts.note("old", accepted_rows=53, rows=1, at_us=2)
    assert counts.added_to(()) == (Gap("old", 2, 2),)


def test_many_gaps_take_little_room() -> None:
    """A disk that is full every other request leaves one gap a minute, with all its rows."""
    counts = RowCounts({}, [])
    for number in range(1, 10_001):
        counts.note("w", accepted_rows=2 * number, rows=1, at_us=number * 6_000)
    gaps = counts.added_to(())
    assert len(gaps) == 2
    assert unrecorded_rows(gaps, since_us=0) == 10_000
