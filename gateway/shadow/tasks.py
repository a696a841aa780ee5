"""Which runs a journalled prediction asks for, seen from one registration. Pure.

A pair needs both answers: what the client was not given is run in shadow, whichever of the
two that is, so that there are pairs at every stage of a rollout.
"""

from __future__ import annotations

import msgspec

from gateway.core.records import PredictionRecord, ShadowRecord, ShadowStatus, TensorRecord
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


def task_of(
    record: PredictionRecord,
    *,
    writer_id: str,
    end: int,
    registration: Registration,
    rollout: Rollout,
) -> Task | None:
    """The runs that the prediction asks for under the rollout of its epoch; None if none."""
    challenger = rollout.challengers.get(registration.version)
    if record.exclusion or challenger is None or challenger.registration != registration.number:
        return None
    sampled = is_sampled(
        record.prediction_id,
        key=sampling_key(challenger.registration_digest),
        probability_bp=challenger.probability_bp,
    )
    pair = (rollout.champion, registration.version)
    versions = tuple(version for version in pair if version != record.version)
    if not sampled or not versions:
        return None
    return Task(record, writer_id, end, versions, challenger.probability_bp)


def sampling_key(registration_digest: str) -> bytes:
    """The key of a registration's sampling hash."""
    return bytes.fromhex(registration_digest)


def shadow_record(
    task: Task,
    *,
    registration: Registration,
    version: str,
    digest: str,
    source_end: int,
    status: ShadowStatus,
    error: str,
    started_at_us: int,
    latency_us: int,
    batch_rows: int,
    outputs: list[TensorRecord],
) -> ShadowRecord:
    """The frame of one run of one prediction."""
    prediction = task.prediction
    return ShadowRecord(
        sequence=0,
        source_writer=task.writer_id,
        source_end=source_end,
        prediction_id=prediction.prediction_id,
        endpoint=prediction.endpoint,
        registration=registration.number,
        version=version,
        digest=digest,
        status=status,
        error=error[:500],
        rows=prediction.rows,
        probability_bp=task.probability_bp,
        started_at_us=started_at_us,
        latency_us=latency_us,
        batch_rows=batch_rows,
        outputs=outputs,
        trace_id=prediction.trace_id,
        parent_span_id=prediction.span_id,
        sampled=prediction.sampled,
    )
