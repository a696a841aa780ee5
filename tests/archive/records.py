"""Records as workers, the shadow lane and the labels API write them, with what a test names."""

from __future__ import annotations

from typing import Any

import numpy as np

from gateway.core.records import (
    LabelRow,
    LabelsRecord,
    PredictionRecord,
    ShadowRecord,
    TensorRecord,
)
from gateway.core.tensors import to_raw

DATATYPES = {
    "float16": "FP16", "float32": "FP32", "float64": "FP64", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "bool": "BOOL", "object": "BYTES",
}  # fmt: skip


def tensor(name: str, array: Any) -> TensorRecord:
    """A tensor record of a numpy array."""
    array = np.asarray(array)
    return TensorRecord(name, DATATYPES[array.dtype.name], array.shape, to_raw(array))


def prediction(prediction_id: str, **changed: Any) -> PredictionRecord:
    """One answered request of one row, but for what is `changed`."""
    facts: dict[str, Any] = {
        "sequence": 0, "accepted_rows": 0, "prediction_id": prediction_id,
        "accepted_at_us": 1_000_000, "occurred_at_us": None, "endpoint": "flights", "epoch": 2,
        "version": "1", "digest": "d1", "role": "champion", "exclusion": "", "status": "ok",
        "error": "", "rows": 1, "unit_hash": None, "propensity_bp": 10_000, "entity": None,
        "attributes": None, "client_request_id": None, "client": "", "trace_id": "t",
        "span_id": "s", "parent_span_id": "", "sampled": False, "latency_us": 300,
        "queue_us": 10, "inputs": [], "outputs": [],
    }  # fmt: skip
    return PredictionRecord(**{**facts, **changed})


def shadow(prediction_id: str, **changed: Any) -> ShadowRecord:
    """A challenger's discarded answer to one row, but for what is `changed`."""
    facts: dict[str, Any] = {
        "sequence": 0, "source_writer": "w1", "source_end": 1, "prediction_id": prediction_id,
        "endpoint": "flights", "registration": 1, "version": "2", "digest": "d2", "status": "ok",
        "error": "", "rows": 1, "probability_bp": 10_000, "started_at_us": 2_000_000,
        "latency_us": 500, "batch_rows": 8, "outputs": [],
    }  # fmt: skip
    return ShadowRecord(**{**facts, **changed})


def labels(*rows: LabelRow, received_at_us: int = 3_000_000) -> LabelsRecord:
    """The labels of one request."""
    return LabelsRecord(
        sequence=0, received_at_us=received_at_us, source="api", client="key-1", rows=list(rows)
    )


def label(prediction_id: str, value: float | str, **changed: Any) -> LabelRow:
    """The truth about row 0, but for what is `changed`."""
    facts: dict[str, Any] = {
        "prediction_id": prediction_id, "row": 0, "label": value, "observed_at_us": None,
        "attributes": None, **changed,
    }  # fmt: skip
    label_id = f"{prediction_id}-{facts['row']}-{value}-{facts['observed_at_us']}"
    return LabelRow(**{"label_id": label_id, **facts})
