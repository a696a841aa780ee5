"""Retention beside a lagging challenger: what it loses is `expired`, and the books balance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.archive.books import Books, books
from gateway.archive.intake import Intake
from gateway.archive.tables import ArchiveReader
from gateway.archive.upkeep import ArchiveUpkeep
from gateway.archive.writer import ArchiveWriter
from gateway.core.policies.policy import Case
from gateway.core.policies.whole import whole
from gateway.journal.reader import end_offset, segment_starts, writer_ids
from gateway.journal.writer import JournalWriter
from gateway.judge.evaluation import evaluate
from gateway.judge.evidence_state import state_of
from gateway.shadow.cursors import Cursors
from gateway.shadow.lane import Lane
from gateway.upkeep import Upkeep
from tests.archive.records import prediction
from tests.archive.scenes import OPENED, S, closed, registration, scope, terms
from tests.shadow.scene import REGISTRATION, end, frames, open_lane, rollout_at
from tests.shadow.work import Stub, column

SEGMENT_BYTES = 2000


class State:
    """A state folder with one worker's journal, and the Evaluator's parts around it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "shadow").mkdir()
        self.source = JournalWriter(folder / "journal", writer_id="w1", segment_bytes=SEGMENT_BYTES)
        self.cursors = Cursors(folder / "shadow")
        self.archive = ArchiveWriter(folder / "archive")
        self.intake = Intake(
            (folder / "journal", folder / "shadow"), self.archive,
            sinks=(self.cursors.note,), flush_every_s=0.0,
        )  # fmt: skip

    def accept(self, count: int) -> None:
        for _ in range(count):
            number = self.source.sequence
            self.source.append(prediction(f"{number:032x}", inputs=[column(number)]))

    def read(self) -> None:
        while self.intake.read():
            pass
        if self.intake.flush(idle=True):
            self.cursors.save(self.intake.archived)

    def tend(self, *lanes: Lane, keep_bytes: int = 0) -> None:
        """All that is not needed goes at once."""
        upkeep = Upkeep(
            self.folder, archive=ArchiveUpkeep(self.archive, keep_us=None),
            cursors=self.cursors, journal_keep_us=10**15, journal_keep_bytes=keep_bytes,
        )  # fmt: skip
        upkeep.tend_journals(lanes, self.intake.archived)

    @property
    def kept_from(self) -> int:
        return segment_starts(self.folder / "journal" / "w1")[0]

    def books(self) -> Books:
        with ArchiveReader(self.folder / "archive") as reader:
            rollouts = {OPENED: rollout_at(OPENED)}
            return books(reader, scope(REGISTRATION, rollouts=rollouts))


def run(lane: Lane) -> None:
    """All that can be done now."""
    while lane.step():
        pass


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    made = State(tmp_path)
    yield made
    made.source.close()


def test_what_everybody_has_read_goes(state: State) -> None:
    """Archived and shadowed segments are deleted, but for the one that is written."""
    lane = open_lane(state.folder, Stub(state.folder, "fine"))
    state.accept(40)
    state.read()
    run(lane)
    assert len(segment_starts(state.folder / "journal" / "w1")) > 2
    state.tend(lane)
    assert len(segment_starts(state.folder / "journal" / "w1")) == 1
    state.read()
    assert state.books() == Books(journalled=40, compared=40)
    end(lane)


def test_what_is_not_archived_stays(state: State) -> None:
    """Evidence is never let go unread, however full the journal is."""
    lane = open_lane(state.folder, Stub(state.folder, "fine"))
    state.accept(40)
    run(lane)
    state.tend(lane)
    assert state.kept_from == 0
    end(lane)


def test_what_a_lagging_challenger_loses_is_expired(state: State) -> None:
    """Its lane writes it down before the segments go, runs the rest, and the books balance."""
    lane = open_lane(state.folder, Stub(state.folder, "fine"))
    state.accept(40)
    state.read()
    state.tend(lane)
    assert state.kept_from == 0  # the lane has not been asked to let go of it before now
    run(lane)
    state.read()
    state.tend(lane)
    assert state.kept_from > 0
    found = state.books()
    assert found.balanced
    assert found.expired > 0 and found.compared > 0 and found.pending == 0
    assert found.expired + found.compared == found.journalled == 40
    lost = [one for one in frames(state.folder) if one.status == "expired"]
    assert all("let go" in one.error and not one.outputs for one in lost)
    end(lane)


@pytest.mark.parametrize("killed_after", [0, 5, 17])
def test_a_killed_lane_expires_each_row_once(state: State, killed_after: int) -> None:
    """Killed among the expired ones, the next lane goes on behind its last frame."""
    first = open_lane(state.folder, Stub(state.folder, "fine"))
    state.accept(40)
    state.read()
    state.tend(first)
    run(first)
    end(first)
    frame_ends = [entry.end for entry in _entries(state.folder / "shadow" / "s1")]
    shadow = next((state.folder / "shadow" / "s1").glob("*.seg"))
    with shadow.open("r+b") as file:
        file.truncate(frame_ends[killed_after])
    cursors = Cursors(state.folder / "shadow")
    cursors.catch_up()
    second = open_lane(
        state.folder, Stub(state.folder, "fine"), writer_id="s2", cursor=cursors.of("flights", 1)
    )
    state.tend(second)
    run(second)
    state.read()
    state.tend(second)
    found = state.books()
    assert found.balanced
    assert found.expired > 0 and found.expired + found.compared == found.journalled == 40
    end(second)


def test_one_expired_row_blocks_the_promotion(state: State) -> None:
    """The gate `whole` is undecided, whatever the evidence says."""
    lane = open_lane(state.folder, Stub(state.folder, "fine"))
    state.accept(40)
    state.read()
    state.tend(lane)
    run(lane)
    state.read()
    with ArchiveReader(state.folder / "archive") as reader:
        checkpoint = evaluate(
            reader, REGISTRATION, {OPENED: rollout_at(OPENED)}, None,
            cut_us=10**9 * S, covered=state.intake.archived, at_us=0,
        )  # fmt: skip
    evidence = state_of(checkpoint).evidence
    assert evidence.counts.expired == state.books().expired > 0
    case = Case(
        evidence=evidence, terms=REGISTRATION.terms, level=0.05,
        opened_at_us=0, clock_at_us=10**9 * S,
    )  # fmt: skip
    assert whole(case).outcome == "undecided"
    end(lane)


def test_the_journal_is_kept_while_there_is_room(state: State) -> None:
    """Retention is a limit: below it a challenger may lag as it likes."""
    lane = open_lane(state.folder, Stub(state.folder, "fine"))
    state.accept(40)
    state.read()
    state.tend(lane, keep_bytes=1 << 30)
    run(lane)
    state.read()
    assert state.kept_from == 0
    assert state.books() == Books(journalled=40, compared=40)
    end(lane)


def test_shadow_journals_go_too(state: State) -> None:
    """Once their frames are archived and the cursors are on the disk; then a restart needs
    none of them."""
    lane = open_lane(state.folder, Stub(state.folder, "fine"))
    state.accept(40)
    run(lane)
    end(lane)
    state.tend()
    assert writer_ids(state.folder / "shadow") == ["s1"]
    state.read()
    state.tend()
    assert writer_ids(state.folder / "shadow") == []
    restarted = Cursors(state.folder / "shadow")
    restarted.catch_up()
    assert restarted.of("flights", 1) == {"w1": end_offset(state.folder / "journal" / "w1")}
    assert state.books() == Books(journalled=40, compared=40)


def test_the_archive_is_let_go_file_by_file(tmp_path: Path) -> None:
    """What is older than the setting goes, with its shadows and labels."""
    archive = ArchiveWriter(tmp_path)
    for end_, at_s in ((1, 10), (2, 50)):
        archive.append("w", end_, prediction(f"{end_:032x}", accepted_at_us=at_s * S))
        archive.flush()
    upkeep = ArchiveUpkeep(archive, keep_us=30 * S)
    upkeep.step(is_idle=True, needed_since_us={}, now_us=60 * S)
    assert [file.latest_at_us for file in archive.manifest.files] == [50 * S]
    assert (archive.manifest.let_go, upkeep.held_files) == (1, 0)


def test_an_open_registration_holds_its_rows(tmp_path: Path) -> None:
    """And no others; it is said that it does."""
    archive = ArchiveWriter(tmp_path)
    for end_, at_s in ((1, 10), (2, 20)):
        archive.append("w", end_, prediction(f"{end_:032x}", accepted_at_us=at_s * S))
        archive.flush()
    upkeep = ArchiveUpkeep(archive, keep_us=30 * S)
    upkeep.step(is_idle=True, needed_since_us={"flights": 15 * S}, now_us=90 * S)
    assert [file.latest_at_us for file in archive.manifest.files] == [20 * S]
    assert upkeep.held_files == 1
    whole_upkeep = Upkeep(
        tmp_path, archive=upkeep, cursors=Cursors(tmp_path), journal_keep_us=0,
        journal_keep_bytes=0,
    )  # fmt: skip
    assert "1 files of the archive are past retention" in whole_upkeep.problem


def test_only_open_registrations_hold_rows(tmp_path: Path) -> None:
    """A closed one needs nothing any more."""
    archive = ArchiveWriter(tmp_path / "archive")
    archive.append("w", 1, prediction("a" * 32, accepted_at_us=10 * S))
    archive.flush()
    upkeep = Upkeep(
        tmp_path, archive=ArchiveUpkeep(archive, keep_us=30 * S), cursors=Cursors(tmp_path),
        journal_keep_us=0, journal_keep_bytes=0,
    )  # fmt: skip
    over = closed(registration(terms()), at_epoch=OPENED + 1)
    upkeep.tend_archive([over], is_idle=True)
    assert archive.manifest.files == ()


def _entries(folder: Path) -> list[object]:
    from gateway.journal.reader import JournalTail

    return list(JournalTail(folder).drain())
