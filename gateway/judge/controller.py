"""Acting on verdicts where the endpoint says `approval: automatic`.

The same use case that an operator calls, with the same checks; what it is refused now it
asks for again at the next checkpoint. Everything else waits for a person.
"""

from __future__ import annotations

import msgspec

from gateway.core.routes import Rollout
from gateway.errors import AuditionError
from gateway.judge.changes import Intent
from gateway.judge.operations import Operations
from gateway.ports import Checkpoint, Registration

ACTOR = "judge"


class _Said(msgspec.Struct):
    kind: str
    reasons: list[str]


def act(
    operations: Operations, rollout: Rollout, registration: Registration, checkpoint: Checkpoint
) -> str:
    """Promote on PROMOTE and withdraw on REJECT. Returns why nothing was done, or nothing."""
    if rollout.rules.policy.approval != "automatic":
        return ""
    said = msgspec.json.decode(checkpoint.verdict, type=_Said)
    intent = Intent(
        actor=ACTOR,
        reason=f"{said.kind}: {'; '.join(said.reasons)}"[:1000],
        expected_epoch=rollout.epoch,
    )
    try:
        if said.kind == "PROMOTE":
            operations.promote(rollout.endpoint, registration.version, intent=intent)
        elif said.kind == "REJECT":
            operations.withdraw(rollout.endpoint, registration.version, intent=intent)
    except AuditionError as error:
        return f"{said.kind} was not carried out: {error}"
    return ""
