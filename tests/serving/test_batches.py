"""Runs that are joined: who shares one, what each gets of it, and who is to blame."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.core.routes import EndpointRules
from gateway.errors import InvalidInput, ModelTimedOut, NonFiniteOutput, Overloaded
from gateway.runtimes.onnx import Arrays
from gateway.serving.runs import Runs
from tests import models
from tests.serving.gated_models import DEFAULTS, Gated, ask, gated, until
from tests.serving.pacing import HOUR_MS, LeapingClock

HOUR = EndpointRules(time_limit_ms=HOUR_MS)


def _row(*values: float) -> Arrays:
    return {"x": np.array([values], np.float32)}


def _rows_of(gate: Gated) -> list[int]:
    """The rows of each run, in order."""
    return [arrays["x"].shape[0] for arrays in gate.seen]


async def _busy_with(
    runs: Runs, served: Any, gate: Gated, held: Arrays, rest: list[Arrays], **options: Any
) -> list[Any]:
    """Let `rest` come while `held` runs, then let everything through; what became of each."""
    asked = [ask(runs, served, held, **options)]
    await until(lambda: len(gate.seen) == 1)
    asked += [ask(runs, served, arrays, **options) for arrays in rest]
    await until(lambda: runs.under_way == len(asked))
    gate.let_through(100)
    return await asyncio.gather(*asked, return_exceptions=True)


def test_what_comes_while_a_model_runs_is_its_next_run(tmp_path: Path) -> None:
    """An idle model runs at once; the others share a run, and each gets its own rows of it."""
    runs = Runs(threads=2, waiting=16)
    served, gate = gated(tmp_path, models.linear())
    sent = [_row(n, n, n) for n in range(5)] + [{"x": models.ramp(2, 3)}]
    ends = asyncio.run(_busy_with(runs, served, gate, sent[0], sent[1:]))
    assert _rows_of(gate) == [1, 6]
    assert [end.outputs["y"].tolist() for end in ends] == [
        *([6.0 * n] for n in range(5)),
        [8.0, 26.0],
    ]
    assert runs.under_way == 0


def test_joined_answers_are_those_of_a_run_alone(tmp_path: Path) -> None:
    """Bit for bit, where the model's own arithmetic does not depend on the batch."""
    random = np.random.default_rng(5)
    sent: list[Arrays] = [
        {"x": random.integers(-1000, 1000, (rows, 3)).astype(np.float32)} for rows in (1, 3, 1, 2)
    ]
    found = []
    for rules in (DEFAULTS, EndpointRules(max_batch_rows=1, time_limit_ms=HOUR_MS)):
        served, gate = gated(tmp_path, models.linear((0.5, -2.0, 0.25)))
        runs = Runs(threads=1, waiting=16)
        ends = asyncio.run(_busy_with(runs, served, gate, sent[0], sent[1:], rules=rules))
        found.append([end.outputs["y"].tobytes() for end in ends])
        assert _rows_of(gate) == ([1, 6] if rules is DEFAULTS else [1, 3, 1, 2])
    assert found[0] == found[1]


def test_each_of_a_joined_run_says_how_long_it_waited(tmp_path: Path) -> None:
    """The run took as long for all in it; who came first waited longest."""
    runs = Runs(threads=1, waiting=16)
    served, gate = gated(tmp_path, models.linear())
    sent = [_row(n, n, n) for n in range(4)]
    _, *joined = asyncio.run(_busy_with(runs, served, gate, sent[0], sent[1:]))
    assert len({end.run_us for end in joined}) == 1
    waited = [end.queue_us for end in joined]
    assert waited == sorted(waited, reverse=True)


def test_inputs_that_differ_in_shape_are_not_joined(tmp_path: Path) -> None:
    """Every dimension but the first has to be the same; the order of arrival is kept."""
    runs = Runs(threads=1, waiting=16)
    served, gate = gated(tmp_path, models.identity("FP32", shape=("rows", "columns")))
    sent: list[Arrays] = [{"x": models.ramp(1, columns)} for columns in (2, 2, 3, 2, 3)]
    ends = asyncio.run(_busy_with(runs, served, gate, sent[0], sent[1:]))
    assert [arrays["x"].shape for arrays in gate.seen] == [(1, 2), (2, 2), (2, 3)]
    for end, arrays in zip(ends, sent, strict=True):
        assert end.outputs["y"].tolist() == arrays["x"].tolist()


def test_rows_that_touch_each_other_are_never_joined(tmp_path: Path) -> None:
    """A fixed batch, control flow, or no gain: each request has a run of its own."""
    fixed = gated(tmp_path / "fixed", models.one_row_only())
    flow = gated(tmp_path / "flow", models.loop(rounds=2), inline=False)
    light = gated(tmp_path / "light", models.linear(), is_heavy=False)
    for served, gate in (fixed, flow, light):
        runs = Runs(threads=1, waiting=16)
        asyncio.run(_busy_with(runs, served, gate, _row(1, 2, 3), [_row(1, 2, 3)] * 3))
        assert _rows_of(gate) == [1, 1, 1, 1]


def test_a_batch_is_bounded_in_rows(tmp_path: Path) -> None:
    """`max_batch_rows`, and a request larger than that runs by itself."""
    runs = Runs(threads=1, waiting=16)
    served, gate = gated(tmp_path, models.linear())
    rest: list[Arrays] = [{"x": models.ramp(rows, 3)} for rows in (1, 2, 1, 2, 9, 1)]
    rules = EndpointRules(max_batch_rows=4, time_limit_ms=HOUR_MS)
    ends = asyncio.run(_busy_with(runs, served, gate, _row(1, 2, 3), rest, rules=rules))
    assert sorted(_rows_of(gate)) == [1, 3, 4, 9]
    assert [end.outputs["y"].shape for end in ends] == [(1,), (1,), (2,), (1,), (2,), (9,), (1,)]


def test_a_batch_is_bounded_in_time(tmp_path: Path) -> None:
    """It is predicted to take a quarter of the time limit at most."""
    runs = Runs(threads=1, waiting=16)
    served, gate = gated(tmp_path, models.linear())
    gate.cost(60e6, 60e6)  # three rows are 240 s, of 1,000
    rest = [_row(n, n, n) for n in range(6)]
    rules = EndpointRules(time_limit_ms=1_000_000)
    asyncio.run(_busy_with(runs, served, gate, _row(1, 2, 3), rest, rules=rules))
    assert _rows_of(gate) == [1, 3, 3]


def test_a_second_run_begins_once_a_whole_batch_waits(tmp_path: Path) -> None:
    """A free thread stays free while few wait, and is taken as soon as a batch is full."""
    runs = Runs(threads=2, waiting=16)
    served, gate = gated(tmp_path, models.linear())
    rules = EndpointRules(max_batch_rows=3, time_limit_ms=HOUR_MS)

    async def crowd() -> None:
        asked = [ask(runs, served, _row(1, 2, 3), rules=rules)]
        await until(lambda: len(gate.seen) == 1)
        asked += [ask(runs, served, _row(1, 2, 3), rules=rules) for _ in range(2)]
        await until(lambda: runs.under_way == 3)
        assert _rows_of(gate) == [1]
        asked += [ask(runs, served, _row(1, 2, 3), rules=rules) for _ in range(2)]
        await until(lambda: len(gate.seen) == 2)
        assert _rows_of(gate) == [1, 3]
        gate.let_through(100)
        await asyncio.gather(*asked)

    asyncio.run(crowd())
    assert _rows_of(gate) == [1, 3, 1]


def test_a_joined_failure_blames_nobody_but_the_guilty(tmp_path: Path) -> None:
    """One NaN in a batch: everybody runs again alone, and only that request fails."""
    runs = Runs(threads=1, waiting=16)
    served, gate = gated(tmp_path, models.inverse())
    sent = [_row(value) for value in (1, 2, 0, 4, 8)]
    ends = asyncio.run(_busy_with(runs, served, gate, sent[0], sent[1:]))
    assert _rows_of(gate) == [1, 4, 1, 1, 1, 1]
    guilty = ends.pop(2)
    assert isinstance(guilty, NonFiniteOutput)
    assert [end.outputs["y"].tolist() for end in ends] == [
        [1.0],
        [0.5],
        [0.25],
        [0.125],
    ]
    assert runs.under_way == 0


def test_a_text_that_nobody_can_read_is_only_its_senders(tmp_path: Path) -> None:
    """Also where the run raises and no output is there to look at."""
    runs = Runs(threads=1, waiting=16)
    served, gate = gated(tmp_path, models.identity("BYTES", shape=("rows", 1)))
    texts = [b"one", b"two", b"\xff", b"vier"]
    sent: list[Arrays] = [{"x": np.array([[text]], dtype=object)} for text in texts]
    ends = asyncio.run(_busy_with(runs, served, gate, sent[0], sent[1:]))
    assert isinstance(ends.pop(2), InvalidInput)
    assert [end.outputs["y"].tolist() for end in ends] == [[[b"one"]], [[b"two"]], [[b"vier"]]]


def test_a_run_goes_on_while_one_of_its_requests_has_time(tmp_path: Path) -> None:
    """Who is past the limit is told so; the other gets its answer from the same run."""
    runs = Runs(threads=1, waiting=16)
    served, gate = gated(tmp_path, models.linear())
    clock = LeapingClock()

    async def story() -> None:
        # They come together, so they are one run.
        late, patient = (
            ask(runs, served, _row(3, 2, 1), rules=EndpointRules(time_limit_ms=hours * HOUR_MS))
            for hours in (1, 2)
        )
        await until(lambda: bool(gate.seen))
        clock.pass_an_hour()
        with pytest.raises(ModelTimedOut):
            await late
        (options,) = gate.options
        assert not options.terminate
        gate.let_through(1)
        assert (await patient).outputs["y"].tolist() == [10.0]

    clock.run(story())
    assert _rows_of(gate) == [2]


def test_a_run_is_ended_when_all_its_requests_are_past_their_limits(tmp_path: Path) -> None:
    """No failure is looked into then, because nobody waits for an answer."""
    runs = Runs(threads=1, waiting=16)
    served, gate = gated(tmp_path, models.linear())
    clock = LeapingClock()

    async def story() -> None:
        asked = [ask(runs, served, _row(3, 2, 1), rules=HOUR) for _ in range(2)]
        await until(lambda: bool(gate.seen))
        clock.pass_an_hour()
        ends = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(end) for end in ends] == [ModelTimedOut, ModelTimedOut]
        (options,) = gate.options
        assert options.terminate
        gate.let_through(1)
        await until(lambda: runs.under_way == 0)

    clock.run(story())
    assert _rows_of(gate) == [2]


def test_a_run_that_nobody_waits_for_is_ended(tmp_path: Path) -> None:
    """When the last of its requests has gone."""
    runs = Runs(threads=1, waiting=16)
    served, gate = gated(tmp_path, models.linear())

    async def story() -> None:
        asked = [ask(runs, served, _row(1, 2, 3), rules=HOUR) for _ in range(2)]
        await until(lambda: len(gate.seen) == 1)
        (options,) = gate.options
        for task, is_ended in zip(asked, (False, True), strict=True):
            task.cancel()
            await asyncio.wait((task,))
            assert options.terminate is is_ended
        gate.let_through(1)
        await until(lambda: runs.under_way == 0)

    asyncio.run(story())


def test_who_waits_too_long_is_turned_away(tmp_path: Path) -> None:
    """`max_queue_ms` bounds the waiting alone: the run that began in time has all its time."""
    runs = Runs(threads=1, waiting=16)
    served, gate = gated(tmp_path, models.linear())
    clock = LeapingClock()
    rules = EndpointRules(time_limit_ms=3 * HOUR_MS, max_queue_ms=HOUR_MS)

    async def story() -> None:
        first = ask(runs, served, _row(3, 2, 1), rules=rules)
        await until(lambda: len(gate.seen) == 1)
        second = ask(runs, served, _row(1, 2, 3), rules=rules)
        await until(lambda: runs.under_way == 2)
        clock.pass_an_hour()
        with pytest.raises(Overloaded, match="no run could begin"):
            await second
        assert runs.under_way == 1
        assert not first.done()
        clock.pass_an_hour()
        clock.pass_an_hour()
        with pytest.raises(ModelTimedOut):
            await first
        gate.let_through(1)
        await until(lambda: runs.under_way == 0)

    clock.run(story())
    assert _rows_of(gate) == [1]
