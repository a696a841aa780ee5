"""What is written down of a shadow run: one frame a prediction and version. Pure."""

from __future__ import annotations

from gateway.core.records import ShadowRecord
from gateway.ports import Registration
from gateway.shadow.latencies import Pair
from gateway.shadow.running import RunResult
from gateway.shadow.tasks import Task

_ERROR_CHARACTERS = 500


def shadow_record(
    task: Task,
    result: RunResult,
    *,
    registration: Registration,
    version: str,
    digest: str,
    source_end: int,
    alone: Pair | None,
) -> ShadowRecord:
    """The frame of one run of one prediction; `alone` is the latency pair, where there is one."""
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
        status=result.status,
        error=result.error[:_ERROR_CHARACTERS],
        rows=prediction.rows,
        probability_bp=task.probability_bp,
        started_at_us=result.started_at_us,
        latency_us=result.latency_us,
        batch_rows=result.batch_rows,
        outputs=result.outputs,
        trace_id=prediction.trace_id,
        parent_span_id=prediction.span_id,
        sampled=prediction.sampled,
        champion_alone_us=None if alone is None else alone.champion_us,
        challenger_alone_us=None if alone is None else alone.challenger_us,
    )
