"""What is written to the journal: one record a frame, as msgspec MessagePack arrays.

Rules of the format, which outlives every release:
- a record is a tagged array; a field is only ever added at the end, with a default;
- a field is never renamed in meaning, reordered or removed;
- tensors are raw little-endian bytes, so what the model saw can be run again bit for bit.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Scalar = str | float | bool | None

#: How a request ended. `ok` answered; the others are results too and are counted.
Status = Literal["ok", "failed", "timed_out", "nonfinite", "undecodable", "overloaded", "expired"]

#: Why a prediction is not judged; empty when it is.
Exclusion = Literal["", "undecodable", "pinned", "overload", "not_captured"]


class TensorRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One tensor; `data` holds the elements as the protocol's raw binary form."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


class PredictionRecord(msgspec.Struct, array_like=True, tag="p", gc=False):
    """One request and how it ended. An undecodable request counts as one row."""

    sequence: int
    accepted_rows: int  # rows that this writer has accepted so far, these included: the books
    prediction_id: str
    accepted_at_us: int
    occurred_at_us: int | None
    endpoint: str
    epoch: int
    version: str
    digest: str
    role: str  # champion | challenger | previous, at the moment of the answer
    exclusion: Exclusion
    status: Status
    error: str
    rows: int
    unit_hash: int | None
    propensity_bp: int
    entity: str | None
    attributes: dict[str, Scalar] | None
    client_request_id: str | None
    client: str
    trace_id: str
    span_id: str
    parent_span_id: str
    sampled: bool  # whether spans are made of this record
    latency_us: int
    queue_us: int
    inputs: list[TensorRecord]
    outputs: list[TensorRecord]
    # From the request's last byte to this record: what the worker adds to a client's waiting.
    elapsed_us: int | None = None


class LabelRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The truth about one row of one prediction, as somebody saw it at `observed_at_us`."""

    label_id: str  # digest of the content, so that sending it again is no second label
    prediction_id: str
    row: int
    label: float | str
    observed_at_us: int | None
    attributes: dict[str, Scalar] | None


class LabelsRecord(msgspec.Struct, array_like=True, tag="l"):
    """The labels of one request, together in one frame: all of them or none."""

    sequence: int
    received_at_us: int
    source: str
    client: str
    rows: list[LabelRow]


#: How a shadow run ended. `refused`: the request lacks an input that the version reads.
ShadowStatus = Literal["ok", "failed", "timed_out", "nonfinite", "refused", "expired"]


class ShadowRecord(msgspec.Struct, array_like=True, tag="s", gc=False):
    """One version's discarded answer to one journalled prediction, all its rows.

    `source_writer` and `source_end` (the byte after the source's frame, in the numbering of
    the whole journal of that writer) are the cursor of the shadow lane: what is read back
    after a crash is exactly what was done.
    """

    sequence: int
    source_writer: str
    source_end: int
    prediction_id: str
    endpoint: str
    registration: int
    version: str
    digest: str
    status: ShadowStatus
    error: str
    rows: int
    probability_bp: int
    started_at_us: int
    latency_us: int  # of the whole batch it ran in
    batch_rows: int
    outputs: list[TensorRecord]
    trace_id: str = ""
    parent_span_id: str = ""
    sampled: bool = False
    # Both versions run alone on this request, for a sample: an honest pair of latencies.
    champion_alone_us: int | None = None
    challenger_alone_us: int | None = None


Record = PredictionRecord | LabelsRecord | ShadowRecord

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
encode = _encoder.encode


def decode(data: bytes | memoryview) -> Record:
    """Raises msgspec.DecodeError (or its subclass) when `data` is no record."""
    return _decoder.decode(data)
