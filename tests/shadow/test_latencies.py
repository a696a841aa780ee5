"""Latency pairs: a sample of requests, both versions alone, in an order nobody can predict."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from gateway.journal.writer import JournalWriter
from gateway.runtimes.messages import BatchDone
from gateway.shadow import latencies
from gateway.shadow.latencies import Pair, time_pair
from gateway.shadow.runner import Runner
from tests.archive.records import prediction
from tests.shadow.scene import end, frames, open_lane
from tests.shadow.work import Stub, column, task

KEY = b"k" * 32


def pairs(folder: Path, mode: str, numbers: range, *, value: float = 1.0) -> list[Pair | None]:
    """What is found for each prediction, with one runner for both versions."""
    with Stub(folder, mode).runner() as runner:
        return [
            time_pair(
                task(column(value), end=number),
                key=KEY,
                champion="1",
                challenger="2",
                runner_of=lambda _: runner,
            )
            for number in numbers
        ]


def test_about_one_in_a_hundred_is_timed(tmp_path: Path) -> None:
    """By a keyed hash, so that every run of the lane picks the same ones."""
    found = pairs(tmp_path, "fine", range(2_000))
    assert 8 <= sum(pair is not None for pair in found) <= 40
    assert {pair for pair in found if pair is not None} == {Pair(7, 7)}


def test_either_version_may_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes second finds the caches warm, so it must not always be the same one."""
    monkeypatch.setattr(latencies, "SHARE_BP", 10_000)
    asked: list[str] = []
    with Stub(tmp_path, "fine").runner() as runner:

        def runner_of(version: str) -> Runner:
            asked.append(version)
            return runner

        for number in range(200):
            time_pair(
                task(column(1), end=number),
                key=KEY,
                champion="1",
                challenger="2",
                runner_of=runner_of,
            )
    first = Counter(asked[::2])
    assert 60 <= first["1"] <= 140
    assert first["1"] + first["2"] == 200


@pytest.mark.parametrize("mode", ["exit", "kill"])
def test_a_run_that_fails_is_no_latency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """13 is what the stub dies of."""
    monkeypatch.setattr(latencies, "SHARE_BP", 10_000)
    assert pairs(tmp_path, mode, range(1), value=13) == [None]


def test_a_request_that_lacks_an_input_is_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two would not run, so there is no pair."""
    monkeypatch.setattr(latencies, "SHARE_BP", 10_000)
    with Stub(tmp_path, "fine").runner() as runner:
        assert isinstance(runner.run([column(1)]), BatchDone)
        found = time_pair(task(), key=KEY, champion="1", challenger="2", runner_of=lambda _: runner)
    assert found is None


def test_the_pair_stands_in_the_last_frame_of_its_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Champion and challenger were run again, so it is in the journal once and not twice."""
    monkeypatch.setattr(latencies, "SHARE_BP", 10_000)
    source = JournalWriter(tmp_path / "journal", writer_id="w1")
    lane = open_lane(tmp_path, Stub(tmp_path, "fine"))
    source.append(prediction("p1", inputs=[column(1)], version="3"))
    lane.step()
    champion, challenger = frames(tmp_path)
    assert (champion.champion_alone_us, champion.challenger_alone_us) == (None, None)
    assert (challenger.champion_alone_us, challenger.challenger_alone_us) == (7, 7)
    end(lane)
