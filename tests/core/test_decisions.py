"""The decision log shows whatever is done to it."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from gateway.core.decisions import GENESIS, Decision, decide, decision_hash, verify_decisions
from gateway.core.rollout import AddVersion, step
from tests.rollouts import facts, solo

_Change = Callable[[list[Decision], random.Random], list[Decision]]


def _log(lines: int = 12) -> list[Decision]:
    rollout, log, previous = solo(versions=("1",)), [], GENESIS
    for number in range(lines):
        if number:
            rollout = step(rollout, AddVersion(facts(f"v{number}")))
        log.append(
            decide(
                rollout,
                command={"type": "add_version", "number": number},
                actor="ada",
                reason=f"why {number}",
                at_us=1_000 + number,
                previous_hash=previous,
            )
        )
        previous = log[-1].hash
    return log


def _edit(log: list[Decision], rng: random.Random) -> list[Decision]:
    at, field = rng.randrange(len(log)), rng.choice(Decision.__struct_fields__)
    value = getattr(log[at], field)
    changed = value + 1 if isinstance(value, int) else f"{value}!"
    log[at] = msgspec.structs.replace(log[at], **{field: changed})
    return log


def _edit_and_rehash(log: list[Decision], rng: random.Random) -> list[Decision]:
    at = rng.randrange(len(log))
    forged = msgspec.structs.replace(log[at], reason="forged")
    log[at] = msgspec.structs.replace(forged, hash=decision_hash(forged))
    return log


def _delete(log: list[Decision], rng: random.Random) -> list[Decision]:
    del log[rng.randrange(len(log))]
    return log


def _swap(log: list[Decision], rng: random.Random) -> list[Decision]:
    one, other = rng.sample(range(len(log)), 2)
    log[one], log[other] = log[other], log[one]
    return log


def _cut(log: list[Decision], rng: random.Random) -> list[Decision]:
    return log[: rng.randrange(len(log))]


def _repeat(log: list[Decision], rng: random.Random) -> list[Decision]:
    at = rng.randrange(len(log))
    return [*log[:at], log[at], *log[at:]]


def test_an_untouched_log_has_no_fault() -> None:
    """Also after its way through JSON."""
    log = _log()
    again = msgspec.json.decode(msgspec.json.encode(log), type=list[Decision])
    assert verify_decisions(again, log[-1].hash) == []


def test_a_thousand_tamperings_are_all_seen() -> None:
    """Edits, deletions, reorderings, tail cuts and repetitions, at random places."""
    rng = random.Random(20_240_501)
    changes: list[_Change] = [_edit, _edit_and_rehash, _delete, _swap, _cut, _repeat]
    log = _log()
    for _ in range(1000):
        tampered = rng.choice(changes)(list(log), rng)
        assert verify_decisions(tampered, log[-1].hash), tampered


def test_a_rollout_that_was_changed_in_its_place_is_seen() -> None:
    """The line names the digest of the state that it led to."""
    log = _log(3)
    rollouts = {line.epoch: line.rollout_sha256 for line in log}
    assert verify_decisions(log, log[-1].hash, rollouts=rollouts) == []
    faults = verify_decisions(log, log[-1].hash, rollouts={**rollouts, 2: "0" * 64})
    assert faults == ["the rollout of epoch 2 is not the one that was decided"]
    assert verify_decisions(log, log[-1].hash, rollouts={})


def test_an_empty_log_is_only_right_for_an_endpoint_without_a_head() -> None:
    """Everything cut away is a cut tail too."""
    assert verify_decisions([], GENESIS) == []
    assert verify_decisions([], "a" * 64)
