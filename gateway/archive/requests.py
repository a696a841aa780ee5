"""From archived rows back to the requests that they came from, so that a model can be run on them.

The way back from columns.py: the archive keeps the elements of an input and not its datatype or
its dimensions, so those come from the version that reads it. Rules: the rows of one prediction
come one behind the other, in order; an input that a request did not carry is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from gateway.core.records import PredictionRecord, TensorRecord
from gateway.core.tensors import DATATYPES, DYNAMIC, Shape, TensorSpec, to_raw
from gateway.errors import Refused

#: From the first and the last row (exclusive) of a prediction to its tensor, None without one.
_Cut = Callable[[int, int], TensorRecord | None]


def require_readable(version: str, specs: Iterable[TensorSpec]) -> None:
    """Raise Refused where the archive cannot say what shape an input had."""
    for spec in specs:
        if spec.shape[int(spec.has_rows) :].count(DYNAMIC) > 1:
            raise Refused(
                f"version {version} reads {spec.name} as {list(spec.shape)}, and the archive keeps "
                "no shapes: more than one dimension of a row is open. Challenge the version, whose "
                "shadow reads the journal"
            )


def whole_predictions(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The same rows in tables that end where a prediction ends."""
    kept: pa.Table | None = None
    for batch in batches:
        table = pa.Table.from_batches([batch])
        table = table if kept is None else pa.concat_tables([kept, table])
        ids = table["prediction_id"]
        last = pc.index(ids, ids[-1]).as_py() if table.num_rows else 0
        if last:
            yield table.slice(0, last)
        kept = table.slice(last)
    if kept is not None and kept.num_rows:
        yield kept


def requests_of(table: pa.Table, specs: Sequence[TensorSpec]) -> list[PredictionRecord]:
    """The requests behind whole predictions, in order, with the inputs that `specs` describe.

    `table` has the columns of `predictions`. What no run reads of a record is left empty.
    """
    cuts = [
        _cut(table[f"inputs.{spec.name}"], spec)
        for spec in specs
        if f"inputs.{spec.name}" in table.column_names
    ]
    ids = table["prediction_id"].to_pylist()
    firsts = [row for row in range(len(ids)) if row == 0 or ids[row] != ids[row - 1]]
    facts = table.take(pa.array(firsts, pa.int64())).select(list(_KEPT)).to_pylist()
    records = []
    for fact, first, end in zip(facts, firsts, [*firsts[1:], len(ids)], strict=True):
        tensors = [tensor for cut in cuts if (tensor := cut(first, end)) is not None]
        records.append(_record(fact, end - first, tensors))
    return records


_KEPT = (
    "prediction_id", "endpoint", "epoch", "served_version", "served_digest", "role", "status",
    "source_writer", "source_end",
)  # fmt: skip


def _record(fact: dict[str, Any], rows: int, inputs: list[TensorRecord]) -> PredictionRecord:
    return PredictionRecord(
        sequence=0, accepted_rows=0, prediction_id=fact["prediction_id"], accepted_at_us=0,
        occurred_at_us=None, endpoint=fact["endpoint"], epoch=fact["epoch"],
        version=fact["served_version"], digest=fact["served_digest"], role=fact["role"],
        exclusion="", status=fact["status"], error="", rows=rows, unit_hash=None, propensity_bp=0,
        entity=None, attributes=None, client_request_id=None, client="", trace_id="", span_id="",
        parent_span_id="", sampled=False, latency_us=0, queue_us=0, inputs=inputs, outputs=[],
    )  # fmt: skip


def _cut(column: pa.ChunkedArray, spec: TensorSpec) -> _Cut:
    """How the tensor of a prediction is cut out of its column."""
    array = column.combine_chunks()
    is_there = pc.is_valid(array).to_numpy(zero_copy_only=False)
    ends = np.arange(1, len(array) + 1)
    if pa.types.is_list(array.type):
        ends = np.cumsum(pc.fill_null(pc.list_value_length(array), 0).to_numpy())
        array = array.flatten()
    starts = np.concatenate(([0], ends))
    raw = _raw(array, spec)

    def cut(first: int, end: int) -> TensorRecord | None:
        if not is_there[first]:
            return None
        # A tensor that belongs to the whole request stands at every row of it.
        by_row = spec.has_rows or spec.shape[:1] == (end - first,)
        start, stop = int(starts[first]), int(starts[end if by_row else first + 1])
        shape = _shape(spec, stop - start, rows=end - first)
        return TensorRecord(spec.name, spec.datatype, shape, raw(start, stop))

    return cut


def _raw(elements: pa.Array, spec: TensorSpec) -> Callable[[int, int], bytes]:
    """The raw bytes of some of a column's elements, as the request carried them."""
    if spec.datatype == "BYTES":
        texts = np.array(elements.to_pylist(), dtype=object)
        return lambda start, stop: to_raw(texts[start:stop])
    numbers = elements.to_numpy(zero_copy_only=False)
    if elements.null_count:  # a row that does not carry the input; nobody reads it
        numbers = pc.fill_null(elements, pa.scalar(0, elements.type)).to_numpy(zero_copy_only=False)
    typed = numbers.astype(DATATYPES[spec.datatype].dtype)
    return lambda start, stop: to_raw(typed[start:stop])


def _shape(spec: TensorSpec, elements: int, *, rows: int) -> Shape:
    shape = [rows if spec.has_rows and not place else dim for place, dim in enumerate(spec.shape)]
    if DYNAMIC in shape:
        known = math.prod(dim for dim in shape if dim != DYNAMIC)
        shape[shape.index(DYNAMIC)] = elements // known if known else 0
    return tuple(shape)
