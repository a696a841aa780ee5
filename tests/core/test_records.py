"""The records' format outlives releases: what an earlier one wrote is read by this one."""

from __future__ import annotations

import msgspec

from gateway.core.records import PredictionRecord, decode, encode
from tests.archive.records import prediction


def test_a_prediction_without_later_fields_is_read() -> None:
    """As it was written before `elapsed_us` was added at the end: its latency is not known."""
    record = prediction("p1", elapsed_us=77)
    fields = msgspec.msgpack.decode(encode(record))
    assert fields[-1] == 77
    earlier = decode(msgspec.msgpack.encode(fields[:-1]))
    assert isinstance(earlier, PredictionRecord)
    assert earlier == msgspec.structs.replace(record, elapsed_us=None)
