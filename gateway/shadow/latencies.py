"""Honest latency pairs: both versions on the same request, alone, one after the other.

A live run and a batch in shadow are different measurements, so neither says which model is
faster. For a small sample both are run once more, each by itself in a process of its own and
in random order, so that neither is always the one that finds the caches warm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.core.split import is_sampled
from gateway.runtimes.messages import BatchDone
from gateway.shadow.runner import Runner
from gateway.shadow.running import inputs_of
from gateway.shadow.tasks import Task

#: One prediction in a hundred: enough for a median within hours, too few to be felt.
SHARE_BP = 100
#: Of the tasks that are run together, at most so many: what runs fast in a batch may be slow
#: alone, and where thousands come in a second every hundredth would take most of the time.
#: Which ones are left out depends on their place only.
MOST_AT_ONCE = 1
_HALF_BP = 5_000


class Pair(NamedTuple):
    """Run times of one request on both versions, in µs."""

    champion_us: int
    challenger_us: int


def time_pairs(
    tasks: Sequence[Task],
    *,
    key: bytes,
    champion: str,
    challenger: str,
    runner_of: Callable[[str], Runner],
) -> dict[int, Pair]:
    """The pairs of the sampled ones among `tasks`, by their place; without those that fail."""
    ids = [task.prediction.prediction_id for task in tasks]
    sampled = [i for i, one in enumerate(ids) if is_sampled(one, key=key, probability_bp=SHARE_BP)]
    pairs = {}
    for place in sampled[:MOST_AT_ONCE]:
        first = is_sampled(ids[place], key=key[::-1], probability_bp=_HALF_BP)
        order = (champion, challenger) if first else (challenger, champion)
        pair = _time_pair(tasks[place], order, runner_of)
        if pair is not None:
            pairs[place] = Pair(pair[champion], pair[challenger])
    return pairs


def _time_pair(
    task: Task, order: Sequence[str], runner_of: Callable[[str], Runner]
) -> dict[str, int] | None:
    taken_us: dict[str, int] = {}
    for version in order:
        taken = _alone_us(runner_of(version), task)
        if taken is None:
            return None
        taken_us[version] = taken
    return taken_us


def _alone_us(runner: Runner, task: Task) -> int | None:
    inputs = inputs_of(runner, task)
    if len(inputs) < len(runner.facts.signature.inputs):
        return None
    reply = runner.run(inputs)
    return reply.latency_us if isinstance(reply, BatchDone) else None
