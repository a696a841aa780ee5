"""From journal records to Arrow tables: one row for each item of a batch.

Rules: a column at a time, because a row at a time costs ten times as much. Records whose
tensors have the same names and kinds share a table. Nothing here reads or writes files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from gateway.archive.schema import FIXED, Dataset
from gateway.core.records import LabelsRecord, PredictionRecord, Scalar, ShadowRecord, TensorRecord
from gateway.core.split import WHOLE_BP
from gateway.core.tensors import DATATYPES, from_raw

_json = msgspec.json.Encoder().encode


class Framed(NamedTuple):
    """A record and where its frame ends in the whole journal of its writer."""

    writer: str
    end: int
    record: Any


def prediction_tables(frames: Sequence[Framed]) -> list[pa.Table]:
    """The `predictions` rows of these frames, a table for each set of tensors."""
    return [_prediction_table(group) for group in _alike(frames, _tensors_of_prediction)]


def shadow_tables(frames: Sequence[Framed]) -> list[pa.Table]:
    """The `shadows` rows of these frames, a table for each set of tensors."""
    return [_shadow_table(group) for group in _alike(frames, _tensors_of_shadow)]


def label_table(frames: Sequence[Framed]) -> pa.Table:
    """The `labels` rows of these frames."""
    records: list[LabelsRecord] = [frame.record for frame in frames]
    labels = [label for record in records for label in record.rows]
    is_text = [isinstance(label.label, str) for label in labels]
    per_label = partial(_spread, rows=[len(record.rows) for record in records])
    columns = {
        "prediction_id": [label.prediction_id for label in labels],
        "row": [label.row for label in labels],
        "label_id": [label.label_id for label in labels],
        "label": [None if t else x.label for x, t in zip(labels, is_text, strict=True)],
        "label_text": [x.label if t else None for x, t in zip(labels, is_text, strict=True)],
        "observed_at": [label.observed_at_us for label in labels],
        "received_at": per_label([record.received_at_us for record in records]),
        "attributes": [_attributes(label.attributes) for label in labels],
        "source": per_label([record.source for record in records]),
        "client": per_label([record.client for record in records]),
        **_place(frames, per_label),
    }
    return _table("labels", columns, {})


def _prediction_table(frames: Sequence[Framed]) -> pa.Table:
    records: list[PredictionRecord] = [frame.record for frame in frames]
    rows = [record.rows for record in records]
    per_row = partial(_spread, rows=rows)
    columns = {
        "prediction_id": per_row([r.prediction_id for r in records]),
        "row": _row_numbers(rows),
        "accepted_at": per_row([r.accepted_at_us for r in records]),
        "occurred_at": per_row([r.occurred_at_us for r in records]),
        "endpoint": per_row([r.endpoint for r in records]),
        "epoch": per_row([r.epoch for r in records]),
        "served_version": per_row([r.version for r in records]),
        "served_digest": per_row([r.digest for r in records]),
        "role": per_row([r.role for r in records]),
        "exclusion": per_row([r.exclusion for r in records]),
        "status": per_row([r.status for r in records]),
        "error": per_row([r.error for r in records]),
        "unit_hash": per_row([r.unit_hash for r in records]),
        "propensity": per_row([r.propensity_bp / WHOLE_BP for r in records]),
        "entity": per_row([r.entity for r in records]),
        "attributes": per_row([_attributes(r.attributes) for r in records]),
        "client_request_id": per_row([r.client_request_id for r in records]),
        "client": per_row([r.client for r in records]),
        "trace_id": per_row([r.trace_id for r in records]),
        "span_id": per_row([r.span_id for r in records]),
        "latency_us": per_row([r.latency_us for r in records]),
        "queue_us": per_row([r.queue_us for r in records]),
        **_place(frames, per_row),
    }
    tensors = _tensor_columns("inputs", [r.inputs for r in records], rows)
    tensors |= _tensor_columns("outputs", [r.outputs for r in records], rows)
    return _table("predictions", columns, tensors)


def _shadow_table(frames: Sequence[Framed]) -> pa.Table:
    records: list[ShadowRecord] = [frame.record for frame in frames]
    rows = [record.rows for record in records]
    per_row = partial(_spread, rows=rows)
    columns = {
        "prediction_id": per_row([r.prediction_id for r in records]),
        "row": _row_numbers(rows),
        "endpoint": per_row([r.endpoint for r in records]),
        "registration": per_row([r.registration for r in records]),
        "version": per_row([r.version for r in records]),
        "digest": per_row([r.digest for r in records]),
        "status": per_row([r.status for r in records]),
        "error": per_row([r.error for r in records]),
        "shadow_probability": per_row([r.probability_bp / WHOLE_BP for r in records]),
        "started_at": per_row([r.started_at_us for r in records]),
        "latency_us": per_row([r.latency_us for r in records]),
        "batch_rows": per_row([r.batch_rows for r in records]),
        "champion_alone_us": per_row([r.champion_alone_us for r in records]),
        "challenger_alone_us": per_row([r.challenger_alone_us for r in records]),
        **_place(frames, per_row),
    }
    return _table(
        "shadows", columns, _tensor_columns("outputs", [r.outputs for r in records], rows)
    )


def _place(
    frames: Sequence[Framed], spread: Callable[[list[Any]], list[Any]]
) -> dict[str, list[Any]]:
    return {
        "source_writer": spread([frame.writer for frame in frames]),
        "source_end": spread([frame.end for frame in frames]),
    }


def _table(dataset: Dataset, columns: dict[str, Any], tensors: dict[str, pa.Array]) -> pa.Table:
    fixed = {name: pa.array(columns[name], type=kind) for name, kind in FIXED[dataset].items()}
    return pa.table({**fixed, **tensors})


def _spread(values: list[Any], *, rows: Sequence[int]) -> list[Any]:
    """Each value as often as its record has rows; the usual case of one row costs nothing."""
    if len(values) == sum(rows) and (not rows or min(rows) == 1):
        return values
    return [value for value, n in zip(values, rows, strict=True) for _ in range(n)]


def _row_numbers(rows: Sequence[int]) -> list[int]:
    return list(chain.from_iterable(map(range, rows)))


def _attributes(attributes: dict[str, Scalar] | None) -> str | None:
    return None if attributes is None else _json(attributes).decode()


def _tensors_of_prediction(record: PredictionRecord) -> Iterable[TensorRecord]:
    return (*record.inputs, *record.outputs)


def _tensors_of_shadow(record: ShadowRecord) -> Iterable[TensorRecord]:
    return record.outputs


def _alike(
    frames: Sequence[Framed], tensors_of: Callable[[Any], Iterable[TensorRecord]]
) -> list[list[Framed]]:
    """The frames by the names, datatypes and kinds (one value or a list) of their tensors."""
    groups: dict[tuple[Any, ...], list[Framed]] = {}
    for frame in frames:
        rows = frame.record.rows
        key: list[str | bool] = []
        for tensor in tensors_of(frame.record):
            key += (tensor.name, tensor.datatype, _has_single_values(tensor, rows))
        groups.setdefault((len(frame.record.outputs), *key), []).append(frame)
    return list(groups.values())


def _has_single_values(tensor: TensorRecord, rows: int) -> bool:
    """Whether each item has exactly one element."""
    size_bytes = DATATYPES[tensor.datatype].itemsize_bytes
    if size_bytes:
        return len(tensor.data) == rows * size_bytes
    return _elements(tensor) == rows


def _elements(tensor: TensorRecord) -> int:
    elements = 1
    for dimension in tensor.shape:
        elements *= dimension
    return elements


def _tensor_columns(
    kind: str, tensors: Sequence[list[TensorRecord]], rows: Sequence[int]
) -> dict[str, pa.Array]:
    """One column for each tensor of records that are alike."""
    return {
        f"{kind}.{column[0].name}": _column(column, rows) for column in zip(*tensors, strict=True)
    }


def _column(tensors: Sequence[TensorRecord], rows: Sequence[int]) -> pa.Array:
    if _has_single_values(tensors[0], rows[0]):
        return _values(tensors)
    pairs = list(zip(tensors, rows, strict=True))
    lengths = [n for tensor, count in pairs for n in _item_lengths(tensor, count)]
    whole = [tensor if _is_by_item(tensor, count) else _repeated(tensor, count)
             for tensor, count in pairs]  # fmt: skip
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), _values(whole))


def _is_by_item(tensor: TensorRecord, rows: int) -> bool:
    return rows == 1 or (len(tensor.shape) > 0 and tensor.shape[0] == rows)


def _item_lengths(tensor: TensorRecord, rows: int) -> list[int]:
    elements = _elements(tensor)
    length = elements // max(rows, 1) if _is_by_item(tensor, rows) else elements
    return [length] * rows


def _repeated(tensor: TensorRecord, rows: int) -> TensorRecord:
    """A tensor that belongs to the whole request, as every one of its items has it."""
    return TensorRecord(tensor.name, tensor.datatype, (rows, *tensor.shape), tensor.data * rows)


def _values(tensors: Sequence[TensorRecord]) -> pa.Array:
    """All elements of these tensors one after the other."""
    kind = DATATYPES[tensors[0].datatype]
    if not kind.itemsize_bytes:
        return _texts(tensors)
    elements = np.frombuffer(b"".join([tensor.data for tensor in tensors]), dtype=kind.dtype)
    # Half floats are widened: few readers of Parquet know them.
    return pa.array(elements.astype(np.float32) if kind.name == "FP16" else elements)


def _texts(tensors: Sequence[TensorRecord]) -> pa.Array:
    """BYTES as strings; as binary where one of them is no UTF-8."""
    texts: list[bytes] = []
    for tensor in tensors:
        texts += from_raw("BYTES", (_elements(tensor),), tensor.data).tolist()
    try:
        return pa.array([text.decode() for text in texts], type=pa.string())
    except UnicodeDecodeError:
        return pa.array(texts, type=pa.binary())
