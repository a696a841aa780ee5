"""One Parquet file of the archive: written as a whole, and described for the manifest.

Rules: a file is put as a whole (objects.py) and never changed. What the manifest says of it
is computed from its rows here, so that readers can leave files out by it.
"""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from gateway.archive.manifest import ArchiveFile, Range
from gateway.archive.objects import Objects
from gateway.archive.schema import FIXED, REPEATING, Dataset, sql_type

ROW_GROUP_ROWS = 65_536
#: When a row came about, by dataset.
_INSTANTS = {"predictions": "accepted_at", "shadows": "started_at", "labels": "received_at"}


def write_file(
    objects: Objects, dataset: Dataset, endpoint: str, name: str, table: pa.Table
) -> ArchiveFile:
    """Write the rows as object `name` of a dataset. Raises OSError."""
    path = str(PurePosixPath(dataset, endpoint, name))
    size_bytes = objects.put(path, partial(_write, table))
    return _described(dataset, endpoint, path, table, size_bytes)


def _write(table: pa.Table, file: BinaryIO) -> None:
    pq.write_table(
        table,
        file,
        compression="zstd",
        use_dictionary=[name for name in REPEATING if name in table.column_names],
        row_group_size=ROW_GROUP_ROWS,
    )


def _described(
    dataset: Dataset, endpoint: str, path: str, table: pa.Table, size_bytes: int
) -> ArchiveFile:
    fixed = FIXED[dataset]
    tensors = [field for field in table.schema if field.name not in fixed]
    is_prediction = dataset == "predictions"
    return ArchiveFile(
        dataset=dataset,
        endpoint=endpoint,
        path=path,
        rows=table.num_rows,
        prediction_ids=_range(table["prediction_id"]) or ("", ""),
        sources=_sources(table),
        tensors={field.name: sql_type(field.type) for field in tensors},
        accepted_at_us=_instants(table["accepted_at"]) if is_prediction else None,
        occurred_at_us=_instants(table["occurred_at"]) if is_prediction else None,
        entities=_range(table["entity"]) if is_prediction else None,
        latest_at_us=(_instants(table[_INSTANTS[dataset]]) or (0, 0))[1],
        epochs=_counts(table["epoch"]) if is_prediction else {},
        size_bytes=size_bytes,
    )


def _instants(column: pa.ChunkedArray) -> Range | None:
    found: Range | None = _range(column.cast(pa.int64()))
    return found


def _range(column: pa.ChunkedArray) -> Any:
    found = pc.min_max(column).as_py()
    return None if found["min"] is None else (found["min"], found["max"])


def _sources(table: pa.Table) -> dict[str, Range]:
    ends = table.group_by("source_writer").aggregate([("source_end", "min"), ("source_end", "max")])
    return {
        row["source_writer"]: (row["source_end_min"], row["source_end_max"])
        for row in ends.to_pylist()
    }


def _counts(column: pa.ChunkedArray) -> dict[int, int]:
    found = column.value_counts().to_pylist()
    return {one["values"]: one["counts"] for one in found}
