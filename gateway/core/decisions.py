"""The decision log: each line's hash covers the line and the hash before it.

Rules: pure. The log proves that nothing in it was edited, dropped, inserted or reordered;
the head, which the store keeps apart from the log, proves that its tail was not cut. The
hash is SHA-256 over canonical JSON (sorted keys, UTF-8), so an auditor needs nothing of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from gateway.core.routes import Rollout

#: What stands before the first line.
GENESIS = "0" * 64


class Decision(msgspec.Struct, frozen=True):
    """One line of an endpoint's decision log; `hash` covers the line and the hash before it."""

    endpoint: str
    epoch: int
    at_us: int
    actor: str
    reason: str
    command: dict[str, Any]
    rollout_sha256: str
    previous_hash: str
    hash: str


def decide(
    rollout: Rollout,
    *,
    command: dict[str, Any],
    actor: str,
    reason: str,
    at_us: int,
    previous_hash: str,
) -> Decision:
    """The line that says how the endpoint came to `rollout`."""
    line = Decision(
        endpoint=rollout.endpoint,
        epoch=rollout.epoch,
        at_us=at_us,
        actor=actor,
        reason=reason,
        command=command,
        rollout_sha256=rollout_sha256(rollout),
        previous_hash=previous_hash,
        hash="",
    )
    return msgspec.structs.replace(line, hash=decision_hash(line))


def decision_hash(decision: Decision) -> str:
    """SHA-256 of every field but `hash`, as hexadecimal digits."""
    line = msgspec.to_builtins(decision)
    del line["hash"]
    return sha256(canonical_json(line)).hexdigest()


def rollout_sha256(rollout: Rollout) -> str:
    """SHA-256 of the rollout's canonical JSON, as hexadecimal digits."""
    return document_sha256(rollout)


def document_sha256(value: object) -> str:
    """SHA-256 of the canonical JSON of any value, as hexadecimal digits."""
    return sha256(canonical_json(value)).hexdigest()


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no blanks: one value, one text."""
    return msgspec.json.encode(value, order="deterministic")


def verify_decisions(
    decisions: Sequence[Decision],
    head: str,
    *,
    rollouts: Mapping[int, str] | None = None,
    now_at: int | None = None,
) -> list[str]:
    """What is wrong with a log, oldest line first; empty when nothing is.

    `head` is the hash that the store holds for the endpoint; `rollouts` maps epochs to the
    SHA-256 of each rollout as it is stored now, and is not compared if None; `now_at` is the
    epoch that the endpoint says it is at.
    """
    faults: list[str] = []
    previous, epoch = GENESIS, 0
    for line in decisions:
        faults += _faults_of(line, previous_hash=previous, epoch=epoch + 1)
        if rollouts is not None and rollouts.get(line.epoch) != line.rollout_sha256:
            faults.append(f"the rollout of epoch {line.epoch} is not the one that was decided")
        previous, epoch = line.hash, line.epoch
    if now_at is not None and epoch != now_at:
        faults.append(f"the log ends at epoch {epoch}, but the endpoint is at epoch {now_at}")
    if previous != head:
        faults.append(f"the log ends at {previous[:12]}…, but the endpoint's head is {head[:12]}…")
    return faults


def _faults_of(line: Decision, *, previous_hash: str, epoch: int) -> list[str]:
    faults = []
    if line.epoch != epoch:
        faults.append(f"epoch {line.epoch} stands where epoch {epoch} must be")
    if line.previous_hash != previous_hash:
        faults.append(f"epoch {line.epoch} does not follow from the line before it")
    if decision_hash(line) != line.hash:
        faults.append(f"epoch {line.epoch} was edited: its hash is another")
    return faults
