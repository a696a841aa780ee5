"""Which runs a journalled prediction asks for, seen from one registration. Pure.

A pair needs both answers: what the client was not given is run in shadow, whichever of the
two that is, so that there are pairs at every stage of a rollout.
"""

from __future__ import annotations

import msgspec

from gateway.core.records import PredictionRecord
from gateway.core.routes import Rollout
from gateway.core.split import is_sampled
from gateway.ports import Registration


class Task(msgspec.Struct, gc=False):
    """The shadow runs of one prediction; `end` is the offset behind its frame."""

    prediction: PredictionRecord
    writer_id: str
    end: int
    versions: tuple[str, ...]
    probability_bp: int


class Plan(msgspec.Struct, frozen=True):
    """What a registration asks of the predictions of one epoch.

    `runs` are the versions to run by the one that answered; both of `pair` if it was a third.
    """

    key: bytes
    probability_bp: int
    pair: tuple[str, ...]
    runs: dict[str, tuple[str, ...]]


def plan_of(registration: Registration, rollout: Rollout) -> Plan | None:
    """The plan under the rollout of an epoch; None if the registration has no part in it."""
    challenger = rollout.challengers.get(registration.version)
    if challenger is None or challenger.registration != registration.number:
        return None
    pair = (rollout.champion, registration.version)
    return Plan(
        key=sampling_key(challenger.registration_digest),
        probability_bp=challenger.probability_bp,
        pair=pair,
        runs={one: tuple(other for other in pair if other != one) for one in pair},
    )


def task_of(record: PredictionRecord, *, writer_id: str, end: int, plan: Plan) -> Task | None:
    """The runs that the prediction asks for; None if none."""
    versions = plan.runs.get(record.version, plan.pair)
    # A batch without rows is answered and recorded, but there is nothing in it to compare.
    if record.exclusion or not record.rows or not versions:
        return None
    share_bp = plan.probability_bp
    if not is_sampled(record.prediction_id, key=plan.key, probability_bp=share_bp):
        return None
    return Task(record, writer_id, end, versions, share_bp)


def sampling_key(registration_digest: str) -> bytes:
    """The key of a registration's sampling hash."""
    return bytes.fromhex(registration_digest)
