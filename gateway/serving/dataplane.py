"""The main flow: pick a version, run it, journal what happened, answer.

Every protocol comes through here and nowhere else. Rules: one request makes one record,
whatever became of it; the record is in the journal before the answer leaves; nothing that is
not needed for the answer happens here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from gateway.core.names import prediction_id
from gateway.core.records import Exclusion, PredictionRecord, Scalar, Status, TensorRecord
from gateway.core.split import assign, is_sampled, unit_hash
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
from gateway.serving.batches import Timed
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


class Opened(msgspec.Struct, gc=False):
    """A request that has its id, its version and the record that it will leave."""

    table: Table
    call: Call
    served: ServedVersion
    record: PredictionRecord


class Answer(msgspec.Struct, gc=False):
    """What a request is answered with; `record` is what the journal holds of it."""

    served: ServedVersion
    outputs: Arrays
    record: PredictionRecord


Sink = Callable[[PredictionRecord], None]


class DataPlane:
    """Serves requests over one journal: `open`, then `answer_now` or `answer`."""

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

    def open(self, table: Table, call: Call) -> Opened:
        """Give a decoded request its id and the version that answers it."""
        prediction = self._next_id(call)
        if table.only is not None and call.pinned is None and call.unit is None:
            served, hashed = table.only, None
        else:
            served, hashed = _pick(table, call, prediction)
        return Opened(table, call, served, _begin(table, call, prediction, served, hashed))

    def is_short(self, opened: Opened) -> bool:
        """Whether the answer needs no waiting, neither for a thread nor for the disk."""
        return opened.table.rules.durability != "disk" and self._runs.is_inline(
            opened.served, opened.call.rows
        )

    def answer_now(self, opened: Opened, arrays: Arrays) -> Answer:
        """Answer a request that `is_short`.

        Raises InvalidInput, ModelFailed and its kinds, or JournalUnavailable; all but the last
        are in the journal when they are raised.
        """
        try:
            if opened.call.occurred_at_us is not None:
                self._admit(opened.table, opened.call.occurred_at_us)
            timed = self._runs.run_inline(opened.served, arrays)
        except AuditionError as error:
            opened.record.inputs = _inputs(opened.table, opened.record, arrays)
            self._fail(opened.record, error)
            raise
        return self._complete(opened, arrays, timed)

    async def answer(self, opened: Opened, arrays: Arrays) -> Answer:
        """Answer any request. Raises as `answer_now` does, and Overloaded."""
        if self.is_short(opened):
            return self.answer_now(opened, arrays)
        table = opened.table
        try:
            if opened.call.occurred_at_us is not None:
                self._admit(table, opened.call.occurred_at_us)
            if self._runs.is_inline(opened.served, opened.call.rows):
                timed = self._runs.run_inline(opened.served, arrays)
            else:
                timed = await self._runs.run_threaded(
                    opened.served,
                    arrays,
                    rows=opened.call.rows,
                    endpoint=table.rollout.endpoint,
                    rules=table.rules,
                )
        except AuditionError as error:
            opened.record.inputs = _inputs(table, opened.record, arrays)
            self._fail(opened.record, error)
            await self.settle(table)
            raise
        answer = self._complete(opened, arrays, timed)
        await self.settle(table)
        return answer

    def refuse(self, table: Table, call: Call, error: AuditionError) -> None:
        """Journal a request that could not be decoded, as one row; `settle` before answering."""
        self._fail(_begin(table, call, self._next_id(call), None, None), error)

    async def settle(self, table: Table) -> None:
        """Wait for the disk, where the endpoint's answers wait for it."""
        if table.rules.durability == "disk":
            try:
                await self._journal.synced()
            except JournalUnavailable:
                if not self._serve_unrecorded:
                    raise

    def _next_id(self, call: Call) -> str:
        self._counter = counter = self._counter + 1
        return prediction_id(
            at_ms=call.accepted_at_us // 1000, writer_id=self._journal.writer_id, counter=counter
        )

    def _admit(self, table: Table, occurred_at_us: int) -> None:
        clock = self._clock_of(table.rollout.endpoint)
        clock.admit("parameters.occurred_at", occurred_at_us)

    def _complete(self, opened: Opened, arrays: Arrays, timed: Timed) -> Answer:
        served, record, outputs = opened.served, opened.record, timed.outputs
        record.inputs = _inputs(opened.table, record, arrays)
        for spec in served.model.facts.signature.outputs:
            output = outputs[spec.name]
            raw = to_raw(output) if spec.datatype == "BYTES" else output.tobytes()
            record.outputs.append(TensorRecord(spec.name, spec.datatype, output.shape, raw))
        record.latency_us = timed.run_us
        record.queue_us = timed.queue_us
        self._append(record)
        return Answer(served, outputs, record)

    def _fail(self, record: PredictionRecord, error: AuditionError) -> None:
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
        self._append(record)

    def _append(self, record: PredictionRecord) -> None:
        # A failed write leaves no record, so no answer may be given; unless the operator has
        # chosen answers over records, and then every one of them is counted. Rows are accepted
        # here and not before the run: what a killed worker had not finished is in no book.
        self.accepted_rows += record.rows
        record.accepted_rows = self.accepted_rows
        record.elapsed_us = time.time_ns() // 1000 - record.accepted_at_us
        try:
            self._journal.append(record)
        except JournalUnavailable as error:
            self._count_unrecorded(record, error)
        for sink in self._sinks:
            sink(record)

    def _count_unrecorded(self, record: PredictionRecord, error: JournalUnavailable) -> None:
        """Raises JournalUnavailable where answers need records, or cannot even be counted."""
        try:
            if not self._serve_unrecorded:
                raise error
            self._journal.count_unrecorded(self.accepted_rows)
        except JournalUnavailable:
            self.accepted_rows -= record.rows
            raise
        self.unrecorded_rows += record.rows


def _begin(
    table: Table,
    call: Call,
    prediction: str,
    served: ServedVersion | None,
    hashed: int | None,
) -> PredictionRecord:
    rollout, trace = table.rollout, call.trace
    return PredictionRecord(
        0,
        0,
        prediction,
        call.accepted_at_us,
        call.occurred_at_us,
        rollout.endpoint,
        rollout.epoch,
        "" if served is None else served.version,
        "" if served is None else served.digest,
        "" if served is None else served.role,
        "pinned" if call.pinned is not None else table.exclusion,
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


def _pick(table: Table, call: Call, prediction: str) -> tuple[ServedVersion, int | None]:
    hashed = None if call.unit is None else unit_hash(table.salt, call.unit)
    if call.pinned is not None:
        return table.versions[call.pinned], hashed
    if table.only is not None:
        return table.only, hashed
    unit = unit_hash(table.salt, prediction) if hashed is None else hashed
    version = assign(table.rollout.split, salt=table.salt, hashed_unit=unit)
    return table.versions[version], hashed


def _inputs(table: Table, record: PredictionRecord, arrays: Arrays) -> list[TensorRecord]:
    """What the journal keeps of the inputs: all, or what a shadow will see of them."""
    if table.seen_by is not None and (
        record.exclusion
        or not any(
            is_sampled(record.prediction_id, key=key, probability_bp=share)
            for key, share in table.seen_by
        )
    ):
        return []
    declared = table.inputs
    tensors = []
    for name, array in arrays.items():
        datatype = declared[name].datatype
        raw = to_raw(array) if datatype == "BYTES" else array.tobytes()
        tensors.append(TensorRecord(name, datatype, array.shape, raw))
    return tensors
