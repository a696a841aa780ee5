"""Latency pairs: a sample of requests, both versions alone, in an order nobody can predict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.core.split import is_sampled
from gateway.journal.writer import JournalWriter
from gateway.runtimes.messages import BatchDone
from gateway.shadow import latencies
from gateway.shadow.latencies import Pair, time_pairs
from gateway.shadow.runner import Runner
from gateway.shadow.tasks import Task
from tests.archive.records import prediction
from tests.shadow.scene import end, frames, open_lane
from tests.shadow.work import Stub, column, task

KEY = b"k" * 32


def timed(runner_of: Callable[[str], Runner], *tasks: Task) -> dict[int, Pair]:
    """The pairs of these tasks, run together."""
    return time_pairs(tasks, key=KEY, champion="1", challenger="2", runner_of=runner_of)


def pairs(folder: Path, mode: str, numbers: range, *, value: float = 1.0) -> list[Pair]:
    """What is found for each prediction by itself, with one runner for both versions."""
    with Stub(folder, mode).runner() as runner:
        found = [timed(lambda _: runner, task(column(value), end=number)) for number in numbers]
    return [pair for one in found for pair in one.values()]


def test_about_one_in_a_hundred_is_timed(tmp_path: Path) -> None:
    """By a keyed hash, so that every run of the lane picks the same ones."""
    found = pairs(tmp_path, "fine", range(2_000))
    assert 8 <= len(found) <= 40
    assert set(found) == {Pair(7, 7)}


def test_of_those_run_together_few_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first that are sampled, whatever comes behind them; each at its own place."""
    tasks = [task(column(1), end=number) for number in range(600)]
    with Stub(tmp_path, "fine").runner() as runner:
        found = timed(lambda _: runner, *tasks)
        monkeypatch.setattr(latencies, "MOST_AT_ONCE", len(tasks))
        every = timed(lambda _: runner, *tasks)
    assert len(every) > 1
    assert list(found) == sorted(every)[:1]
    assert all(timed_alone(tasks[place]) for place in found)


def timed_alone(one: Task) -> bool:
    """Whether the keyed hash picks this prediction."""
    return is_sampled(one.prediction.prediction_id, key=KEY, probability_bp=100)


def test_either_version_may_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes second finds the caches warm, so it must not always be the same one."""
    monkeypatch.setattr(latencies, "SHARE_BP", 10_000)
    asked: list[str] = []
    with Stub(tmp_path, "fine").runner() as runner:

        def runner_of(version: str) -> Runner:
            asked.append(version)
            return runner

        for number in range(200):
            timed(runner_of, task(column(1), end=number))
    first = Counter(asked[::2])
    assert 60 <= first["1"] <= 140
    assert first["1"] + first["2"] == 200


@pytest.mark.parametrize("mode", ["exit", "kill"])
def test_a_run_that_fails_is_no_latency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """13 is what the stub dies of."""
    monkeypatch.setattr(latencies, "SHARE_BP", 10_000)
    assert pairs(tmp_path, mode, range(1), value=13) == []


def test_a_request_that_lacks_an_input_is_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two would not run, so there is no pair."""
    monkeypatch.setattr(latencies, "SHARE_BP", 10_000)
    with Stub(tmp_path, "fine").runner() as runner:
        assert isinstance(runner.run([column(1)]), BatchDone)
        assert timed(lambda _: runner, task()) == {}


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
