"""The rollout: a table of what each command does in each phase.

    solo    the champion answers alone
    shadow  challengers run on the same requests, their answers discarded
    live    the split gives challengers a share of the answers

Rules: pure. A command is a value; `step` returns the next rollout or raises Refused with
what to do instead. Nobody else changes a rollout, and each step raises the epoch by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import msgspec

from gateway.core.routes import Challenger, EndpointRules, Phase, Rollout, VersionFacts
from gateway.core.split import WHOLE_BP
from gateway.errors import Refused, UnknownVersion


class AddVersion(msgspec.Struct, frozen=True, tag="add_version"):
    """Make a version known; it gets no traffic."""

    facts: VersionFacts


class Configure(msgspec.Struct, frozen=True, tag="configure"):
    """Replace the endpoint's rules; open registrations keep the terms they began with."""

    rules: EndpointRules


class Challenge(msgspec.Struct, frozen=True, tag="challenge"):
    """Open a registration: the version runs in shadow from this epoch on."""

    version: str
    registration: int
    registration_digest: str
    probability_bp: int


class Withdraw(msgspec.Struct, frozen=True, tag="withdraw"):
    """Close a challenger's registration without a promotion."""

    version: str


class Shadow(msgspec.Struct, frozen=True, tag="shadow"):
    """Change the share of predictions that a challenger's shadow sees; 0 turns it off."""

    version: str
    probability_bp: int


class Split(msgspec.Struct, frozen=True, tag="split"):
    """Share the answers among champion and challengers, in basis points."""

    weights_bp: dict[str, int]


class Promote(msgspec.Struct, frozen=True, tag="promote"):
    """Make a challenger the champion. `stay` are the new registrations of the others."""

    version: str
    forced: bool
    stay: tuple[Challenger, ...] = ()


class Rollback(msgspec.Struct, frozen=True, tag="rollback"):
    """Make the previous champion the champion again. `stay` as in Promote."""

    stay: tuple[Challenger, ...] = ()


Command = AddVersion | Configure | Challenge | Withdraw | Shadow | Split | Promote | Rollback


def first_rollout(
    endpoint: str, *, champion: VersionFacts, rules: EndpointRules, salt: str
) -> Rollout:
    """The state of an endpoint that has never been served before."""
    return Rollout(
        endpoint=endpoint,
        epoch=1,
        phase="solo",
        champion=champion.version,
        previous=None,
        split={champion.version: WHOLE_BP},
        challengers={},
        versions={champion.version: champion},
        rules=rules,
        salt=salt,
    )


def _add_version(rollout: Rollout, command: AddVersion) -> Rollout:
    facts = command.facts
    known = rollout.versions.get(facts.version)
    if known is not None:
        raise Refused(
            f"version {facts.version} exists and versions are immutable "
            f"(its digest is {known.digest[:12]}…); add the file under another version"
        )
    return _next(rollout, versions={**rollout.versions, facts.version: facts})


def _configure(rollout: Rollout, command: Configure) -> Rollout:
    return _next(rollout, rules=command.rules)


def _challenge(rollout: Rollout, command: Challenge) -> Rollout:
    version = command.version
    _require_known(rollout, version)
    if version == rollout.champion:
        raise Refused(f"version {version} is the champion; challenge it with another version")
    if version in rollout.challengers:
        raise Refused(f"version {version} is a challenger already; withdraw it to start anew")
    if rollout.rules.capture_inputs == "none":
        raise Refused(
            f"endpoint {rollout.endpoint} does not capture inputs (capture.inputs: none), so no "
            "shadow can run on them; set it to sampled or all in the endpoint file"
        )
    _require_share("probability_bp", command.probability_bp)
    challenger = Challenger(
        version=version,
        registration=command.registration,
        registration_digest=command.registration_digest,
        probability_bp=command.probability_bp,
    )
    # A fresh salt for each registration, but never while units are assigned by the old one.
    salt = rollout.salt if rollout.phase == "live" else command.registration_digest
    return _next(rollout, challengers={**rollout.challengers, version: challenger}, salt=salt)


def _withdraw(rollout: Rollout, command: Withdraw) -> Rollout:
    _require_challenger(rollout, command.version)
    others = {v: c for v, c in rollout.challengers.items() if v != command.version}
    share = rollout.split.get(command.version, 0)
    split = {v: w for v, w in rollout.split.items() if v != command.version}
    split[rollout.champion] = split.get(rollout.champion, 0) + share
    return _next(rollout, challengers=others, split=split)


def _shadow(rollout: Rollout, command: Shadow) -> Rollout:
    challenger = _require_challenger(rollout, command.version)
    _require_share("probability_bp", command.probability_bp)
    changed = msgspec.structs.replace(challenger, probability_bp=command.probability_bp)
    return _next(rollout, challengers={**rollout.challengers, command.version: changed})


def _split(rollout: Rollout, command: Split) -> Rollout:
    for version, weight_bp in command.weights_bp.items():
        _require_known(rollout, version)
        _require_share(f"weight of version {version}", weight_bp)
        if version != rollout.champion and version not in rollout.challengers:
            raise Refused(f"version {version} is no challenger; challenge it before it answers")
    total = sum(command.weights_bp.values())
    if total != WHOLE_BP:
        raise Refused(f"the weights sum to {total} basis points; they must sum to {WHOLE_BP}")
    return _next(rollout, split={v: w for v, w in command.weights_bp.items() if w})


def _promote(rollout: Rollout, command: Promote) -> Rollout:
    _require_challenger(rollout, command.version)
    return _crown(rollout, command.version, command.stay)


def _rollback(rollout: Rollout, command: Rollback) -> Rollout:
    if rollout.previous is None:
        raise Refused("there is no previous champion to go back to")
    return _crown(rollout, rollout.previous, command.stay)


def _crown(rollout: Rollout, champion: str, stay: tuple[Challenger, ...]) -> Rollout:
    """A change of champion closes every registration; `stay` holds the newly opened ones."""
    return _next(
        rollout,
        champion=champion,
        previous=rollout.champion,
        split={champion: WHOLE_BP},
        challengers={c.version: c for c in stay},
    )


def _nothing_in_shadow(_rollout: Rollout, _command: object) -> Rollout:
    raise Refused("the endpoint has no challenger; use `audition challenge` first")


_ALWAYS: dict[type, Callable[..., Rollout]] = {
    AddVersion: _add_version,
    Configure: _configure,
    Challenge: _challenge,
    Rollback: _rollback,
}
_WITH_CHALLENGERS: dict[type, Callable[..., Rollout]] = {
    Withdraw: _withdraw,
    Shadow: _shadow,
    Split: _split,
    Promote: _promote,
}
TABLE: dict[Phase, dict[type, Callable[..., Rollout]]] = {
    "solo": {**_ALWAYS, **dict.fromkeys(_WITH_CHALLENGERS, _nothing_in_shadow)},
    "shadow": {**_ALWAYS, **_WITH_CHALLENGERS},
    "live": {**_ALWAYS, **_WITH_CHALLENGERS},
}
PHASES: tuple[Phase, ...] = get_args(Phase)
COMMANDS: tuple[type, ...] = get_args(Command)


def step(rollout: Rollout, command: Command) -> Rollout:
    """The rollout after `command`, one epoch on. Raises Refused or UnknownVersion."""
    return TABLE[rollout.phase][type(command)](rollout, command)


def _next(rollout: Rollout, **changes: object) -> Rollout:
    changed = msgspec.structs.replace(rollout, epoch=rollout.epoch + 1, **changes)
    return msgspec.structs.replace(changed, phase=_phase(changed))


def _phase(rollout: Rollout) -> Phase:
    if rollout.split.get(rollout.champion, 0) != WHOLE_BP:
        return "live"
    return "shadow" if rollout.challengers else "solo"


def _require_known(rollout: Rollout, version: str) -> None:
    if version not in rollout.versions:
        known = ", ".join(sorted(rollout.versions))
        raise UnknownVersion(
            f"endpoint {rollout.endpoint} has no version {version}; it has {known}"
        )


def _require_challenger(rollout: Rollout, version: str) -> Challenger:
    _require_known(rollout, version)
    if version not in rollout.challengers:
        raise Refused(f"version {version} is no challenger; use `audition challenge` first")
    return rollout.challengers[version]


def _require_share(field: str, share_bp: int) -> None:
    if not 0 <= share_bp <= WHOLE_BP:
        raise Refused(f"{field} is {share_bp} basis points; it must be 0 to {WHOLE_BP}")
