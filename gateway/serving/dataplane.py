"""The main flow: pick a version, run it, journal what happened, answer.

Every protocol calls `DataPlane.infer` and nothing else. Rules: one request makes one record,
whatever became of it; the record is in the journal before the answer leaves; nothing that is
not needed for the answer happens here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from gateway.core.names import prediction_id
from gateway.core.records import Exclusion, PredictionRecord, Scalar, Status, TensorRecord
from gateway.core.split import assign, unit_hash
from gateway.core.tensors import to_raw
from gateway.errors import (
    AuditionError,
    InvalidInput,
    JournalUnavailable,
    ModelFailed,
    ModelTimedOut,
    NonFiniteOutput,
    Overloaded,
)
from gateway.journal.writer import JournalWriter
from gateway.runtimes.onnx import Arrays
from gateway.serving.clock import EventClock
from gateway.serving.routes import ServedVersion, Table
from gateway.serving.runs import Runs
from gateway.serving.trace import Trace

_ENDS: dict[type[AuditionError], tuple[Status, Exclusion]] = {
    InvalidInput: ("undecodable", "undecodable"),
    ModelTimedOut: ("timed_out", ""),
    NonFiniteOutput: ("nonfinite", ""),
    ModelFailed: ("failed", ""),
    Overloaded: ("overloaded", "overload"),
}


class Call(msgspec.Struct, gc=False):
    """One request as a protocol hands it over; `pinned` names a version past the split."""

    trace: Trace
    accepted_at_us: int
    client: str = ""
    client_request_id: str | None = None
    pinned: str | None = None
    unit: str | None = None
    entity: str | None = None
    occurred_at_us: int | None = None
    attributes: dict[str, Scalar] | None = None
    rows: int = 1


class Answer(msgspec.Struct, gc=False):
    """What a request is answered with; `record` is what the journal holds of it."""

    prediction_id: str
    served: ServedVersion
    outputs: Arrays
    record: PredictionRecord


Sink = Callable[[PredictionRecord], None]


class DataPlane:
    """Serves requests over one journal."""

    def __init__(
        self,
        *,
        journal: JournalWriter,
        runs: Runs,
        clock_of: Callable[[str], EventClock],
        sinks: Sequence[Sink] = (),
        serve_unrecorded: bool = False,
    ) -> None:
        self._journal = journal
        self._runs = runs
        self._clock_of = clock_of
        self._sinks = tuple(sinks)
        self._serve_unrecorded = serve_unrecorded
        self._counter = 0
        self.accepted_rows = 0
        self.unrecorded_rows = 0

    async def infer(self, table: Table, call: Call, arrays: Arrays) -> Answer:
        """Answer one decoded request.

        Raises InvalidInput, ModelFailed and its kinds, Overloaded or JournalUnavailable; all
        but the last are in the journal when they are raised.
        """
        at_ms = call.accepted_at_us // 1000
        prediction = prediction_id(
            at_ms=at_ms, writer_id=self._journal.writer_id, counter=self._counter
        )
        self._counter += 1
        served, hashed = _pick(table, call, prediction)
        record = self._begin(table, call, prediction, served, hashed)
        try:
            if call.occurred_at_us is not None:
                self._clock_of(table.rollout.endpoint).admit(
                    "parameters.occurred_at", call.occurred_at_us
                )
            # No coroutine around this: it would cost each short run about a microsecond.
            if self._runs.is_inline(served, call.rows):
                timed = self._runs.run_inline(served, arrays)
            else:
                timed = await self._runs.run_threaded(
                    served, arrays, time_limit_ms=table.rules.time_limit_ms
                )
        except AuditionError as error:
            record.inputs = _tensors(table, arrays)
            await self._fail(table, record, error)
            raise
        record.inputs = _tensors(table, arrays)
        record.outputs = [
            TensorRecord(s.name, s.datatype, o.shape, to_raw(o))
            for s, o in zip(
                served.model.facts.signature.outputs, timed.outputs.values(), strict=True
            )
        ]
        record.latency_us = timed.run_us
        record.queue_us = timed.queue_us
        await self._append(table, record)
        return Answer(prediction, served, timed.outputs, record)

    async def refuse(self, table: Table, call: Call, error: AuditionError) -> None:
        """Journal a request that could not be decoded, as one row."""
        prediction = prediction_id(
            at_ms=call.accepted_at_us // 1000,
            writer_id=self._journal.writer_id,
            counter=self._counter,
        )
        self._counter += 1
        record = self._begin(table, call, prediction, None, None)
        await self._fail(table, record, error)

    def _begin(
        self,
        table: Table,
        call: Call,
        prediction: str,
        served: ServedVersion | None,
        hashed: int | None,
    ) -> PredictionRecord:
        trace = call.trace
        return PredictionRecord(
            0,
            0,
            prediction,
            call.accepted_at_us,
            call.occurred_at_us,
            table.rollout.endpoint,
            table.rollout.epoch,
            "" if served is None else served.version,
            "" if served is None else served.digest,
            "" if served is None else served.role,
            "pinned" if call.pinned is not None else "",
            "ok",
            "",
            call.rows,
            hashed,
            10_000 if served is None or call.pinned is not None else served.propensity_bp,
            call.entity,
            call.attributes,
            call.client_request_id,
            call.client,
            trace.trace_id,
            trace.span_id,
            trace.parent_span_id,
            trace.sampled,
            0,
            0,
            [],
            [],
        )

    async def _fail(self, table: Table, record: PredictionRecord, error: AuditionError) -> None:
        for kind in type(error).__mro__:
            if kind in _ENDS:
                record.status, exclusion = _ENDS[kind]
                record.exclusion = exclusion or record.exclusion
                break
        else:
            raise error
        if record.status == "undecodable":
            record.rows = 1
        record.error = str(error)[:500]
        record.latency_us = time.time_ns() // 1000 - record.accepted_at_us
        await self._append(table, record)

    async def _append(self, table: Table, record: PredictionRecord) -> None:
        # A failed write leaves no record, so no answer may be given; unless the operator has
        # chosen answers over records, and then every one of them is counted. Rows are accepted
        # here and not before the run: what a killed worker had not finished is in no book.
        self.accepted_rows += record.rows
        record.accepted_rows = self.accepted_rows
        try:
            self._journal.append(record)
            if table.rules.durability == "disk":
                await self._journal.synced()
        except JournalUnavailable:
            if not self._serve_unrecorded:
                self.accepted_rows -= record.rows
                raise
            self.unrecorded_rows += record.rows
        for sink in self._sinks:
            sink(record)


def _pick(table: Table, call: Call, prediction: str) -> tuple[ServedVersion, int | None]:
    hashed = None if call.unit is None else unit_hash(table.salt, call.unit)
    if call.pinned is not None:
        return table.versions[call.pinned], hashed
    if table.only is not None:
        return table.only, hashed
    unit = unit_hash(table.salt, prediction) if hashed is None else hashed
    version = assign(table.rollout.split, salt=table.salt, hashed_unit=unit)
    return table.versions[version], hashed


def _tensors(table: Table, arrays: Arrays) -> list[TensorRecord]:
    declared = table.inputs
    return [
        TensorRecord(name, declared[name].datatype, array.shape, to_raw(array))
        for name, array in arrays.items()
    ]
