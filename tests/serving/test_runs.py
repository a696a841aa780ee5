"""Where runs happen: on the loop while they are short, in threads when they are not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.errors import ModelFailed, ModelTimedOut, Overloaded
from gateway.runtimes.onnx import INLINE_BUDGET_US, Arrays
from gateway.serving.routes import ServedVersion
from gateway.serving.runs import Runs
from tests import models

FED: Arrays = {"x": models.ramp(1, 3)}


def _served(tmp_path: Path, content: bytes, *, inline: bool = True) -> ServedVersion:
    facts = models.facts_in(tmp_path, "demo", "1", content, inline=inline)
    return ServedVersion(models.loaded(tmp_path, facts), role="champion", propensity_bp=10_000)


class _Slow:
    """A model whose run is made longer by what `spend` does; all else is the real one's."""

    def __init__(self, model: Any, spend: Callable[[], None]) -> None:
        self._model = model
        self.spend = spend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run(self, *given: Any) -> Arrays:
        self.spend()
        found: Arrays = self._model.run(*given)
        return found


def _burn() -> None:
    """Three milliseconds of CPU time."""
    until = time.thread_time_ns() + 3_000_000
    while time.thread_time_ns() < until:
        pass


def test_short_runs_are_predicted_to_fit_the_loop(tmp_path: Path) -> None:
    """The prediction is a + b·rows, against one budget; control flow is never inline."""
    runs = Runs(threads=1, waiting=1)
    served = _served(tmp_path, models.linear())
    served.model.fixed_us, served.model.per_row_us = 100.0, 1.0
    assert runs.is_inline(served, 200)
    assert not runs.is_inline(served, 201 + int(INLINE_BUDGET_US - 300))
    assert not runs.is_inline(_served(tmp_path, models.loop(rounds=2), inline=False), 1)


def test_two_runs_over_the_budget_demote_a_model(tmp_path: Path) -> None:
    """CPU time decides: the first long run only raises the suspicion."""
    runs = Runs(threads=1, waiting=1)
    served = _served(tmp_path, models.linear())
    served.model = _Slow(served.model, _burn)  # type: ignore[assignment]
    for expected in (True, True, False):
        runs.run_inline(served, FED)
        assert served.inline is expected


def test_a_busy_machine_demotes_nobody(tmp_path: Path) -> None:
    """A run that only waits takes long too, but none of the CPU time is the model's."""
    runs = Runs(threads=1, waiting=1)
    served = _served(tmp_path, models.linear())
    served.model = _Slow(served.model, lambda: time.sleep(0.003))  # type: ignore[assignment]
    for _ in range(6):
        runs.run_inline(served, FED)
    assert served.inline


def test_overruns_far_apart_demote_nobody(tmp_path: Path) -> None:
    """A garbage collection now and then is no slow model: only overruns in a row count."""
    runs = Runs(threads=1, waiting=1)
    served = _served(tmp_path, models.linear())
    slow = _Slow(served.model, _burn)
    served.model = slow  # type: ignore[assignment]
    for _ in range(3):
        for spend in (_burn, _burn, lambda: None):
            slow.spend = spend
            runs.run_inline(served, FED)
    assert served.inline


def test_a_threaded_run_says_how_long_it_waited(tmp_path: Path) -> None:
    """Its own time and the time in the queue are told apart."""
    runs = Runs(threads=1, waiting=2)
    served = _served(tmp_path, models.linear())
    served.model = _Slow(served.model, lambda: time.sleep(0.05))  # type: ignore[assignment]

    async def both() -> list[Any]:
        made = [runs.run_threaded(served, FED, time_limit_ms=10_000) for _ in range(2)]
        return await asyncio.gather(*made)

    first, second = asyncio.run(both())
    assert first.outputs["y"].tolist() == [8.0]
    assert second.queue_us > first.queue_us
    assert second.queue_us >= first.run_us // 2
    assert runs.under_way == 0


def test_the_room_is_bounded_and_given_back(tmp_path: Path) -> None:
    """Beyond threads and waiting a run is refused at once; afterwards there is room again."""
    runs = Runs(threads=1, waiting=1)
    served = _served(tmp_path, models.linear())

    async def flood() -> list[Any]:
        made = [runs.run_threaded(served, FED, time_limit_ms=10_000) for _ in range(3)]
        return await asyncio.gather(*made, return_exceptions=True)

    for _ in range(2):
        ends = asyncio.run(flood())
        assert [type(end) is Overloaded for end in ends] == [False, False, True]
        assert ends[2].retry_after_s >= 1
        assert runs.under_way == 0


def test_a_failure_in_a_thread_reaches_the_caller(tmp_path: Path) -> None:
    """As the error it is, and the room is given back."""
    runs = Runs(threads=1, waiting=1)
    served = _served(tmp_path, models.linear())
    with pytest.raises(ModelFailed):
        asyncio.run(runs.run_threaded(served, {"x": models.ramp(1, 5)}, time_limit_ms=10_000))
    assert runs.under_way == 0


def test_who_never_began_was_turned_away_and_not_slow(tmp_path: Path) -> None:
    """A run behind a stuck one is overload: the model of the second did nothing wrong."""
    runs = Runs(threads=1, waiting=1)
    stuck = _served(tmp_path, models.loop_while_positive(), inline=False)

    async def queue() -> list[Any]:
        first = runs.run_threaded(stuck, {"x": np.ones((1, 3), np.float32)}, time_limit_ms=600)
        second = runs.run_threaded(stuck, FED, time_limit_ms=50)
        return await asyncio.gather(first, second, return_exceptions=True)

    first, second = asyncio.run(queue())
    assert isinstance(first, ModelTimedOut)
    assert isinstance(second, Overloaded)
