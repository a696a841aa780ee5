"""Where runs happen: on the loop while they are short, in threads when they are not."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.core.routes import EndpointRules
from gateway.errors import ModelFailed, ModelTimedOut, Overloaded
from gateway.runtimes.onnx import INLINE_BUDGET_US, Arrays
from gateway.serving.batches import Timed
from gateway.serving.routes import ServedVersion
from gateway.serving.runs import Runs
from tests import models
from tests.serving.pacing import HOUR_MS, LeapingClock, PacedModel

FED: Arrays = {"x": models.ramp(1, 3)}
ONES: Arrays = {"x": np.ones((1, 3), np.float32)}
DEFAULTS = EndpointRules(time_limit_ms=HOUR_MS)
SINGLE = EndpointRules(time_limit_ms=HOUR_MS, max_batch_rows=1)


def _served(tmp_path: Path, content: bytes, *, inline: bool = True) -> ServedVersion:
    facts = models.facts_in(tmp_path, "demo", "1", content, inline=inline)
    return ServedVersion(models.loaded(tmp_path, facts), role="champion", propensity_bp=10_000)


async def _threaded(
    runs: Runs,
    served: ServedVersion,
    arrays: Arrays = FED,
    *,
    endpoint: str = "demo",
    rules: EndpointRules = DEFAULTS,
) -> Timed:
    rows = arrays["x"].shape[0]
    return await runs.run_threaded(served, arrays, rows=rows, endpoint=endpoint, rules=rules)


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


@pytest.fixture
def no_collections() -> Iterator[None]:
    """The garbage of other tests is not collected at the cost of a run that is measured."""
    gc.disable()
    yield
    gc.enable()


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


def test_a_busy_machine_demotes_nobody(tmp_path: Path, no_collections: None) -> None:
    """A run that only waits takes long too, but none of the CPU time is the model's."""
    runs = Runs(threads=1, waiting=1)
    served = _served(tmp_path, models.linear())
    served.model = _Slow(served.model, lambda: time.sleep(0.003))  # type: ignore[assignment]
    for _ in range(6):
        runs.run_inline(served, FED)
    assert served.inline


def test_overruns_far_apart_demote_nobody(tmp_path: Path, no_collections: None) -> None:
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
    model = PacedModel(served)
    model.hold()

    async def both() -> list[Any]:
        made = [asyncio.ensure_future(_threaded(runs, served, rules=SINGLE)) for _ in range(2)]
        await model.begun()
        await asyncio.sleep(0.05)  # no wait for anything: so long the second waits at least
        model.release()
        return await asyncio.gather(*made)

    asked_ns = time.perf_counter_ns()
    first, second = asyncio.run(both())
    took_us = (time.perf_counter_ns() - asked_ns) // 1000
    assert first.outputs["y"].tolist() == [8.0]
    assert second.queue_us >= 50_000 <= first.run_us
    # One thread: what the second waited is counted once, as the first one's run.
    assert first.queue_us + first.run_us + second.run_us <= took_us
    assert second.queue_us + second.run_us <= took_us
    assert runs.under_way == 0


def test_the_room_is_bounded_and_given_back(tmp_path: Path) -> None:
    """Beyond threads and waiting a run is refused at once; afterwards there is room again."""
    runs = Runs(threads=1, waiting=1)
    served = _served(tmp_path, models.linear())

    async def flood() -> list[Any]:
        made = [_threaded(runs, served) for _ in range(3)]
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
        asyncio.run(_threaded(runs, served, {"x": models.ramp(1, 5)}))
    assert runs.under_way == 0


def test_who_never_began_was_turned_away_and_not_slow(tmp_path: Path) -> None:
    """A run behind a stuck one is overload: the model of the second did nothing wrong."""
    runs = Runs(threads=1, waiting=1)
    stuck = _served(tmp_path, models.loop_while_positive(), inline=False)
    clock, model = LeapingClock(), PacedModel(stuck)

    async def queue() -> list[Any]:
        limits = [EndpointRules(time_limit_ms=hours * HOUR_MS) for hours in (2, 1)]
        first = asyncio.ensure_future(_threaded(runs, stuck, ONES, rules=limits[0]))
        await model.begun()
        second = asyncio.ensure_future(_threaded(runs, stuck, rules=limits[1]))
        await asyncio.sleep(0)  # so that its limit begins before the hour
        clock.pass_an_hour()
        await asyncio.wait((second,))
        assert not first.done()
        clock.pass_an_hour()
        return await asyncio.gather(first, second, return_exceptions=True)

    first, second = clock.run(queue())
    assert isinstance(first, ModelTimedOut)
    assert isinstance(second, Overloaded)
