"""Parquet: typed columns, a batch of rows at a time, whatever the size of a row group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from gateway.cli.label_files.rows import UNFIT, Row, shown
from gateway.cli.label_files.tables import encoded, require_columns
from gateway.cli.session import usage_error

_BATCH_ROWS = 5_000
_BUFFER_BYTES = 1 << 20

_Test = Callable[[pa.DataType], bool]


def parquet_rows(file: Path) -> Iterator[Row]:
    """The rows in order, numbered from 1. Raises usage errors."""
    try:
        # Buffered and not read ahead: else a whole row group would lie in memory.
        with pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False) as parquet:
            yield from _rows(parquet, file.stat().st_size)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise usage_error(f"{file.name} cannot be read as Parquet: {error}") from error


def _rows(parquet: pq.ParquetFile, size_bytes: int) -> Iterator[Row]:
    schema = parquet.schema_arrow
    require_columns(schema.names)
    for field in schema:
        _require_type(field)
    number, total = 0, max(1, parquet.metadata.num_rows)
    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
        columns = [_values(column) for column in batch.columns]
        for cells in zip(*columns, strict=True):
            number += 1
            yield _row(number, schema.names, cells, size_bytes * number // total)


def _row(number: int, names: list[str], cells: tuple[Any, ...], end_bytes: int) -> Row:
    try:
        sent = encoded(names, cells)
    except UNFIT as error:
        return Row(number, shown(cells), b"", end_bytes, str(error))
    return Row(number, sent, sent, end_bytes)


def _require_type(field: pa.Field) -> None:
    wanted, tests = _WANTED.get(field.name, _SCALARS)
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if not any(test(kind) for test in tests):
        raise usage_error(f"column {field.name!r} is {field.type}; it must be {wanted}")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_instant(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


_SCALARS: tuple[str, tuple[_Test, ...]] = (
    "numbers, booleans or texts",
    (
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_null,
        _is_text,
    ),
)
_WANTED: dict[str, tuple[str, tuple[_Test, ...]]] = {
    "prediction_id": ("texts", (_is_text,)),
    "row": ("integers", (pa.types.is_integer,)),
    "observed_at": ("timestamps with a time zone, or texts", (_is_instant, _is_text)),
}


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_timestamp(column.type):
        return _moments(column)
    values: list[Any] = column.to_pylist()
    return values


def _moments(column: pa.Array) -> list[str | None]:
    """RFC 3339 in UTC, which is what a timestamp with any zone holds; no zone is looked up."""
    plain = column.cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64())
    texts = plain.cast(pa.timestamp("us")).cast(pa.string()).to_pylist()
    return [None if text is None else text + "Z" for text in texts]
