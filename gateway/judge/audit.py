"""Whether registrations and checkpoints are what the decision log says they are.

Rules: reads only, and says what is wrong in words. The log's hashes cover which registration
was opened with which terms, and which checkpoint each closed on; everything that a verdict
follows from is held against that. What this cannot find is an edit of the log, its head, and
all that hangs on them together: for that the head must be known outside the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isclose
from typing import Any

import msgspec

from gateway.core.decisions import Decision, document_sha256, verify_decisions
from gateway.core.registration import level
from gateway.errors import AuditionError, Refused
from gateway.judge.evidence_state import state_of
from gateway.judge.registrations import promotions_by_verdict
from gateway.judge.verdicts import verdict_of
from gateway.ports import Checkpoint, ControlStore, Registration

#: A registration is opened a moment before the line that says so is committed.
_OPENED_WITHIN_US = 60_000_000


class _Said(msgspec.Struct):
    kind: str
    n: int = 0


def log_faults(
    store: ControlStore, endpoint: str, decisions: Sequence[Decision], head: str
) -> list[str]:
    """Everything that is wrong with an endpoint's log, and with what it opened and closed."""
    rollouts, now_at = store.rollout_digests(endpoint), store.epochs()[endpoint]
    registrations = store.registrations(endpoint)
    faults = verify_decisions(decisions, head, rollouts=rollouts, now_at=now_at)
    faults += missing_registrations(registrations, decisions)
    checkpoints: dict[tuple[int, int], Checkpoint] = {}
    for one in registrations:
        faults += registration_faults(one, decisions)
        found = store.checkpoints(endpoint, one.number)
        checkpoints |= {(one.number, checkpoint.number): checkpoint for checkpoint in found}
        faults += [] if not found else verdict_faults(one, found[-1])
    return faults + closing_faults(decisions, checkpoints)


def registration_faults(found: Registration, decisions: Iterable[Decision]) -> list[str]:
    """What of a registration is not as the log has it."""
    log = list(decisions)
    line, logged = _openings(log).get(found.number, (None, {}))
    name = f"registration {found.number}"
    if line is None:
        return [f"{name} is in no line of the log"]
    agree = {
        "version": found.version == logged["version"],
        "digest": found.digest == logged["registration_digest"],
        "terms": found.terms.digest() == found.digest,
        "level": _is_level(found, [one for one in log if one.epoch <= line.epoch]),
        "opened_epoch": found.opened_epoch == line.epoch,
        "opened_at": 0 <= line.at_us - found.opened_at_us <= _OPENED_WITHIN_US,
    }
    return [f"{name} was edited: its {field} is another" for field, is_so in agree.items()
            if not is_so]  # fmt: skip


def missing_registrations(
    found: Iterable[Registration], decisions: Iterable[Decision]
) -> list[str]:
    """Registrations that the log opened and that are not there."""
    there = {one.number for one in found}
    opened = _openings(decisions)
    return [f"registration {number} is missing" for number in sorted(opened.keys() - there)]


def verdict_faults(registration: Registration, checkpoint: Checkpoint) -> list[str]:
    """Whether the checkpoint's evidence says what its verdict says."""
    name = f"checkpoint {checkpoint.number} of registration {checkpoint.registration}"
    try:
        said = msgspec.json.decode(checkpoint.verdict, type=_Said)
        meant = verdict_of(state_of(checkpoint), registration, cut_us=checkpoint.cut_us)
    except (AuditionError, msgspec.DecodeError) as error:
        return [f"{name} cannot be read: {error}"]
    if (said.kind, said.n) == (meant.kind, meant.n):
        return []
    return [
        f"{name} was edited: it says {said.kind} with n = {said.n}, and its evidence "
        f"{meant.kind} with n = {meant.n}"
    ]


def closing_faults(
    decisions: Iterable[Decision], checkpoints: Mapping[tuple[int, int], Checkpoint]
) -> list[str]:
    """Checkpoints that a registration was closed on and that are not there, or not as then.

    `checkpoints` by registration and number.
    """
    faults = []
    for line in decisions:
        for closing in closings(line):
            key = (closing["registration"], closing["checkpoint"])
            there = checkpoints.get(key)
            if there is None or document_sha256(there) != closing["sha256"]:
                faults.append(
                    f"checkpoint {key[1]} of registration {key[0]}, which epoch {line.epoch} "
                    f"rests on, {'is missing' if there is None else 'was edited'}"
                )
    return faults


def closings(line: Decision) -> list[dict[str, Any]]:
    """The checkpoints that the registrations closed by this line closed on."""
    found: list[dict[str, Any]] = line.command.get("closed_on", [])
    return found


def require_sound(
    registration: Registration, decisions: Iterable[Decision], checkpoint: Checkpoint | None = None
) -> None:
    """Raise Refused where the registration, or what the checkpoint says, was edited."""
    faults = registration_faults(registration, decisions)
    faults += [] if checkpoint is None else verdict_faults(registration, checkpoint)
    if faults:
        raise Refused(
            f"the control store was tampered with: {'; '.join(faults)}; restore it from a backup, "
            "or withdraw the challenger and challenge again"
        )


def _openings(decisions: Iterable[Decision]) -> dict[int, tuple[Decision, dict[str, Any]]]:
    """By number, the line that opened a registration and what it says of it."""
    return {
        opened["registration"]: (line, opened)
        for line in decisions
        for opened in (
            *([line.command] if line.command["type"] == "challenge" else []),
            *line.command.get("stay", []),
        )
    }


def _is_level(found: Registration, log: list[Decision]) -> bool:
    """Whether the level follows from the terms, the number and the promotions up to then."""
    try:
        due = level(
            alpha=found.terms.alpha,
            number=found.number,
            promotions=promotions_by_verdict(log),
            error_control=found.terms.error_control,
        )
    except AuditionError:
        return False
    return isclose(found.level, due, rel_tol=1e-12)
