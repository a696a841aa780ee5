"""Whose turn it is: endpoints share the threads, and a flood only harms itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gateway.core.routes import EndpointRules
from gateway.errors import Overloaded
from gateway.runtimes.onnx import Arrays
from gateway.serving.routes import ServedVersion
from gateway.serving.runs import Runs
from tests import models
from tests.serving.gated_models import Gated, ask, gated, until

RULES = EndpointRules(max_batch_rows=1, time_limit_ms=600_000)
JOINED = EndpointRules(time_limit_ms=600_000)


class _Two:
    """Two endpoints whose models say in one list which of them was run."""

    def __init__(self, folder: Path) -> None:
        self.seen: list[Arrays] = []
        self._models: dict[str, tuple[ServedVersion, Gated]] = {
            name: gated(folder / name, models.linear(weights), seen=self.seen)
            for name, weights in (("loud", (1.0, 0.0, 0.0)), ("quiet", (0.0, 1.0, 0.0)))
        }

    def ask(self, runs: Runs, endpoint: str, rules: EndpointRules = RULES) -> asyncio.Task[Any]:
        """One request; its first number says whose it is."""
        fed: Arrays = {"x": models.ramp(1, 3) + (10 if endpoint == "loud" else 20)}
        return ask(runs, self._models[endpoint][0], fed, endpoint=endpoint, rules=rules)

    def let_all_through(self) -> None:
        """Let every run go on."""
        for _, gate in self._models.values():
            gate.let_through(100)

    def ran(self) -> list[tuple[str, int]]:
        """The endpoint and the rows of each run, in order."""
        names = {10: "loud", 20: "quiet"}
        return [(names[int(fed["x"][0, 0])], fed["x"].shape[0]) for fed in self.seen]


def test_endpoints_take_turns_whatever_their_lines(tmp_path: Path) -> None:
    """One quiet request waits for one run of the flood, not for all of them."""
    two, runs = _Two(tmp_path), Runs(threads=1, waiting=16)

    async def flood() -> None:
        asked = [two.ask(runs, "loud")]
        await until(lambda: len(two.seen) == 1)
        asked += [two.ask(runs, "loud") for _ in range(6)]
        await until(lambda: runs.under_way == 7)
        asked += [two.ask(runs, "quiet") for _ in range(2)]
        await until(lambda: runs.under_way == 9)
        two.let_all_through()
        await asyncio.gather(*asked)

    asyncio.run(flood())
    order = [name for name, _ in two.ran()]
    assert order == ["loud", "loud", "quiet", "loud", "quiet", "loud", "loud", "loud", "loud"]


def test_a_batch_is_one_turn(tmp_path: Path) -> None:
    """Joined or not, an endpoint has one run before the next has its own."""
    two, runs = _Two(tmp_path), Runs(threads=1, waiting=32)

    async def flood() -> None:
        rules = EndpointRules(max_batch_rows=3, time_limit_ms=600_000)
        asked = [two.ask(runs, "loud", rules)]
        await until(lambda: len(two.seen) == 1)
        asked += [two.ask(runs, "loud", rules) for _ in range(6)]
        asked += [two.ask(runs, "quiet", rules) for _ in range(2)]
        await until(lambda: runs.under_way == 9)
        two.let_all_through()
        await asyncio.gather(*asked)

    asyncio.run(flood())
    assert two.ran() == [("loud", 1), ("loud", 3), ("quiet", 2), ("loud", 3)]


def test_a_busy_model_leaves_the_other_threads_to_others(tmp_path: Path) -> None:
    """While one endpoint's requests wait to be joined, another's run begins at once."""
    two, runs = _Two(tmp_path), Runs(threads=2, waiting=16)

    async def both() -> None:
        asked = [two.ask(runs, "loud", JOINED)]
        await until(lambda: len(two.seen) == 1)
        asked += [two.ask(runs, "loud", JOINED) for _ in range(4)]
        await until(lambda: runs.under_way == 5)
        asked.append(two.ask(runs, "quiet", JOINED))
        await until(lambda: len(two.seen) == 2)
        two.let_all_through()
        await asyncio.gather(*asked)

    asyncio.run(both())
    assert two.ran() == [("loud", 1), ("quiet", 1), ("loud", 4)]


def test_where_there_is_no_room_the_longest_line_gives_way(tmp_path: Path) -> None:
    """Its newest request is turned away for another endpoint's, and its own for itself."""
    two, runs = _Two(tmp_path), Runs(threads=1, waiting=4)

    async def flood() -> list[Any]:
        asked = [two.ask(runs, "loud")]
        await until(lambda: len(two.seen) == 1)
        asked += [two.ask(runs, "loud") for _ in range(5)]
        asked += [two.ask(runs, "quiet") for _ in range(3)]
        await until(lambda: sum(task.done() for task in asked) == 4)
        two.let_all_through()
        return await asyncio.gather(*asked, return_exceptions=True)

    ends = asyncio.run(flood())
    # Four may wait: of the flood those that came first, then half of the room for each.
    refused = [isinstance(end, Overloaded) for end in ends]
    assert refused == [False, False, False, True, True, True, False, False, True]
    assert runs.under_way == 0
