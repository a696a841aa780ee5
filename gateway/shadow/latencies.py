"""Honest latency pairs: both versions on the same request, alone, one after the other.

A live run and a batch in shadow are different measurements, so neither says which model is
faster. For a small sample both are run once more, each by itself in a process of its own and
in random order, so that neither is always the one that finds the caches warm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gateway.core.split import is_sampled
from gateway.runtimes.messages import BatchDone
from gateway.shadow.runner import Runner
from gateway.shadow.running import inputs_of
from gateway.shadow.tasks import Task

#: One prediction in a hundred: enough for a median within hours, too few to be felt.
SHARE_BP = 100
_HALF_BP = 5_000


class Pair(NamedTuple):
    """Run times of one request on both versions, in µs."""

    champion_us: int
    challenger_us: int


def time_pair(
    task: Task,
    *,
    key: bytes,
    champion: str,
    challenger: str,
    runner_of: Callable[[str], Runner],
) -> Pair | None:
    """The pair of a sampled prediction; None if it is not sampled or one of them fails."""
    prediction_id = task.prediction.prediction_id
    if not is_sampled(prediction_id, key=key, probability_bp=SHARE_BP):
        return None
    first_is_champion = is_sampled(prediction_id, key=key[::-1], probability_bp=_HALF_BP)
    order = (champion, challenger) if first_is_champion else (challenger, champion)
    taken_us: dict[str, int] = {}
    for version in order:
        taken = _alone_us(runner_of(version), task)
        if taken is None:
            return None
        taken_us[version] = taken
    return Pair(taken_us[champion], taken_us[challenger])


def _alone_us(runner: Runner, task: Task) -> int | None:
    inputs = inputs_of(runner, task)
    if len(inputs) < len(runner.facts.signature.inputs):
        return None
    reply = runner.run(inputs)
    return reply.latency_us if isinstance(reply, BatchDone) else None
