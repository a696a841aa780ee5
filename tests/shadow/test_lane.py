"""A lane: every journalled prediction is run, once as readers see it, whatever stops the lane."""

from __future__ import annotations

import resource
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from gateway.core.routes import Rollout
from gateway.errors import StoreUnavailable
from gateway.journal.reader import end_offset
from gateway.journal.writer import JournalWriter
from gateway.shadow import lane as lanes
from gateway.shadow.cursors import Cursors
from tests.archive.records import prediction
from tests.archive.scenes import OPENED, closed
from tests.serving_process import PATIENCE_S, eventually
from tests.shadow.scene import REGISTRATION, end, frames, open_lane, rollout_at
from tests.shadow.work import Stub, column


@pytest.fixture
def source(tmp_path: Path) -> JournalWriter:
    """The journal of a worker that lives."""
    return JournalWriter(tmp_path / "journal", writer_id="w1")


def accept(source: JournalWriter, *numbers: int, **changed: object) -> None:
    """Journal an answered prediction for each number."""
    for number in numbers:
        record = prediction(f"p{number}", inputs=[column(number)], **changed)
        source.append(record)


def test_every_prediction_gets_a_frame(tmp_path: Path, source: JournalWriter) -> None:
    """In order, with its source's place, its registration and the version's digest."""
    lane = open_lane(tmp_path, Stub(tmp_path, "fine"))
    accept(source, 1, 2, 3)
    assert lane.step()
    found = frames(tmp_path)
    assert [one.prediction_id for one in found] == ["p1", "p2", "p3"]
    assert {(one.version, one.digest, one.status) for one in found} == {("2", "d2", "ok")}
    assert found[-1].source_end == source.offset == lane.positions["w1"]
    assert not lane.step()
    end(lane)


def test_both_are_run_when_a_third_version_answered(tmp_path: Path, source: JournalWriter) -> None:
    """The champion's frame does not move the cursor, the challenger's does."""
    lane = open_lane(tmp_path, Stub(tmp_path, "fine"))
    accept(source, 1, 2, version="3")
    lane.step()
    found = frames(tmp_path)
    assert [(one.prediction_id, one.version) for one in found] == [
        ("p1", "1"), ("p1", "2"), ("p2", "1"), ("p2", "2"),
    ]  # fmt: skip
    assert found[0].source_end == 0
    assert found[2].source_end == found[1].source_end
    end(lane)


def test_records_of_others_are_passed(tmp_path: Path, source: JournalWriter) -> None:
    """Another endpoint's, another epoch's and excluded predictions ask for nothing, and the
    position passes them."""
    registration = closed(REGISTRATION, at_epoch=OPENED + 2)
    lane = open_lane(tmp_path, Stub(tmp_path, "fine"), opened=registration)
    accept(source, 1, endpoint="other")
    accept(source, 2, epoch=OPENED - 1)
    accept(source, 3, epoch=OPENED + 1)
    accept(source, 4, epoch=OPENED + 2)
    accept(source, 5, exclusion="pinned")
    lane.step()
    assert [one.prediction_id for one in frames(tmp_path)] == ["p3"]
    assert lane.positions["w1"] == source.offset
    end(lane)


def test_a_request_without_the_challengers_input_is_refused(
    tmp_path: Path, source: JournalWriter
) -> None:
    """It has its frame too, so that the books know it."""
    lane = open_lane(tmp_path, Stub(tmp_path, "fine"))
    source.append(prediction("p1"))
    lane.step()
    (found,) = frames(tmp_path)
    assert (found.status, found.error) == ("refused", "the request does not carry x")
    end(lane)


@pytest.mark.parametrize("killed_after", range(8))
def test_a_killed_lane_goes_on_where_its_frames_end(
    tmp_path: Path, source: JournalWriter, killed_after: int
) -> None:
    """Wherever its journal was cut, the next lane adds just what is missing: every pair of
    prediction and version is there, and only the first of a prediction in two parts twice."""
    accept(source, 1, 2, 3, 4, version="3")
    first = open_lane(tmp_path, Stub(tmp_path, "fine"))
    first.step()
    end(first)
    done = frames(tmp_path)
    assert len(done) == 8
    cut(tmp_path / "shadow" / "s1", done_frames=killed_after)
    cursors = Cursors(tmp_path / "shadow")
    cursors.catch_up()
    second = open_lane(
        tmp_path, Stub(tmp_path, "fine"), writer_id="s2", cursor=cursors.of("flights", 1)
    )
    second.step()
    end(second)
    seen = Counter(
        (one.prediction_id, one.version)
        for writer_id in ("s1", "s2")
        for one in frames(tmp_path, writer_id)
    )
    assert set(seen) == {(f"p{n}", version) for n in (1, 2, 3, 4) for version in "12"}
    twice = {pair for pair, times in seen.items() if times > 1}
    assert twice == ({(f"p{killed_after // 2 + 1}", "1")} if killed_after % 2 else set())


def cut(journal: Path, *, done_frames: int) -> None:
    """Leave some frames of a journal, and half of the next."""
    from gateway.journal.reader import JournalTail

    ends = [0, *(entry.end for entry in JournalTail(journal).drain())]
    with next(journal.glob("*.seg")).open("r+b") as file:
        file.truncate((ends[done_frames] + ends[done_frames + 1]) // 2)


def test_a_store_that_is_away_is_waited_for(tmp_path: Path, source: JournalWriter) -> None:
    """The lane says what it waits for, keeps its place, and goes on."""
    away = True

    def rollouts_from(epoch: int) -> Rollout:
        if away:
            raise StoreUnavailable("the control store does not answer")
        return rollout_at(epoch)

    lane = open_lane(tmp_path, Stub(tmp_path, "fine"), rollouts_from=rollouts_from)
    accept(source, 1, 2)
    assert not lane.step()
    assert "the control store does not answer" in lane.problem
    assert lane.positions.get("w1", 0) == 0
    away = False
    assert lane.step()
    assert lane.problem == ""
    assert [one.prediction_id for one in frames(tmp_path)] == ["p1", "p2"]
    end(lane)


def test_a_full_disk_is_waited_for(
    tmp_path: Path, source: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shadow journal without room loses no run and repeats none that is in it."""
    monkeypatch.setattr(lanes, "_TOGETHER", 1)
    lane = open_lane(tmp_path, Stub(tmp_path, "fine"))
    accept(source, *range(1, 12))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        assert not lane.step()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot be written" in lane.problem
    done = len(frames(tmp_path))
    assert 0 < done < 11
    assert lane.step()
    assert [one.prediction_id for one in frames(tmp_path)] == [f"p{n}" for n in range(1, 12)]
    assert lane.problem == ""
    end(lane)


def test_one_journal_that_cannot_be_read_holds_up_no_other(
    tmp_path: Path, source: JournalWriter
) -> None:
    """A record of another release stops the lane in its journal only."""
    from gateway.journal.frames import HEADER_BYTES, seal

    strange = bytearray(HEADER_BYTES) + msgspec.msgpack.encode(["z"])
    seal(strange)
    broken = JournalWriter(tmp_path / "journal", writer_id="a-broken")
    accept(broken, 1)
    broken.close()
    with next((tmp_path / "journal" / "a-broken").glob("*.seg")).open("ab") as file:
        file.write(strange)
    accept(source, 2)
    lane = open_lane(tmp_path, Stub(tmp_path, "fine"))
    lane.step()
    lane.step()
    assert sorted(one.prediction_id for one in frames(tmp_path)) == ["p1", "p2"]
    assert "a-broken" in lane.problem and "no record of this release" in lane.problem
    assert not lane.has_reached({"a-broken": end_offset(tmp_path / "journal" / "a-broken")})
    end(lane)


def test_a_closed_registration_ends_its_lane(tmp_path: Path, source: JournalWriter) -> None:
    """The thread runs what was journalled up to the given ends, and then it is gone."""
    lane = open_lane(tmp_path, Stub(tmp_path, "fine"))
    accept(source, 1, 2)
    lane.start()
    eventually(lambda: lane.has_reached({"w1": source.offset}))
    assert lane.is_alive()
    accept(source, 3)
    lane.finish_at({"w1": source.offset})
    lane.join(PATIENCE_S)
    assert not lane.is_alive() and lane.is_finishing and lane.problem == ""
    assert [one.prediction_id for one in frames(tmp_path)] == ["p1", "p2", "p3"]


def test_stopping_passes_nothing_that_was_not_done(
    tmp_path: Path, source: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped lane's positions end before the batch that it did not begin."""
    monkeypatch.setattr(lanes, "_SLICE", 2)
    lane = open_lane(tmp_path, Stub(tmp_path, "fine"))
    accept(source, 1, 2, 3)
    lane.stop()
    assert not lane.step()
    assert frames(tmp_path) == []
    assert lane.positions.get("w1", 0) == 0
    end(lane)
