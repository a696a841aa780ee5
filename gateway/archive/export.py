"""The inference table as a stream of bytes: Parquet, CSV or NDJSON.

Rules: memory does not grow with the table. Text that a spreadsheet would take for a formula
is quoted in CSV, column names too, for inputs come from anybody. A number that JSON cannot
hold is null in NDJSON; a list or bytes in CSV are JSON and base64.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.csv as pa_csv  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from gateway.archive.inference import InferenceTable, chunks, inference_table
from gateway.archive.place import objects_at
from gateway.archive.tables import ArchiveReader
from gateway.core.registration import EventTime
from gateway.errors import CorruptArchive

Format = Literal["parquet", "csv", "ndjson"]

_FORMULA = r"^[=+\-@\t\r]"
_BATCH_ROWS = 10_000
_TABLE_ROWS = 65_536


def export(
    reader: ArchiveReader,
    endpoint: str,
    form: Format,
    sink: BinaryIO,
    *,
    maturity_us: int,
    event_time: EventTime,
) -> None:
    """Write the endpoint's inference table to `sink`, which need not be seekable."""
    table = inference_table(reader, endpoint, maturity_us=maturity_us, event_time=event_time)
    _WRITERS[form](_tables(reader, table), sink)


def _tables(reader: ArchiveReader, table: InferenceTable) -> Iterator[pa.Table]:
    """All rows, some at a time; at least one table, maybe empty, for its columns."""
    is_first = True
    for query in chunks(reader, table):
        batches = reader.batches(query, rows=_TABLE_ROWS)
        for batch in batches:
            yield pa.Table.from_batches([batch])
            is_first = False
        if is_first:
            yield batches.schema.empty_table()
            is_first = False


def _write_parquet(tables: Iterator[pa.Table], sink: BinaryIO) -> None:
    first = next(tables)
    with pq.ParquetWriter(
        pa.PythonFile(_Stream(sink), mode="w"), first.schema, compression="zstd"
    ) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _write_csv(tables: Iterator[pa.Table], sink: BinaryIO) -> None:
    options = {"include_header": True}
    for table in tables:
        names = pa.array(table.column_names)
        plain = pa.table(
            [_csv_column(column) for column in table.columns], names=_defused(names).to_pylist()
        )
        pa_csv.write_csv(plain, sink, pa_csv.WriteOptions(**options))
        options = {"include_header": False}


def _write_ndjson(tables: Iterator[pa.Table], sink: BinaryIO) -> None:
    encode = msgspec.json.Encoder().encode_lines
    for table in tables:
        for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
            sink.write(encode([_with_objects(row) for row in batch.to_pylist()]))


_WRITERS: dict[Format, Callable[[Iterator[pa.Table], BinaryIO], None]] = {
    "parquet": _write_parquet,
    "csv": _write_csv,
    "ndjson": _write_ndjson,
}


def _with_objects(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its attributes as the object that they are."""
    if row["attributes"] is not None:
        row["attributes"] = msgspec.Raw(row["attributes"].encode())
    return row


def _csv_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string(column.type):
        return _defused(column)
    if pa.types.is_list(column.type) or pa.types.is_binary(column.type):
        return pa.chunked_array([[_as_json(value) for value in column.to_pylist()]], pa.string())
    return column


def _defused(texts: Any) -> Any:
    """Texts that a spreadsheet would run as formulas, with an apostrophe in front."""
    runs = pc.match_substring_regex(texts, _FORMULA)
    return pc.if_else(runs, pc.binary_join_element_wise("'", texts, ""), texts)


def _as_json(value: object) -> str | None:
    """Lists as JSON; bytes as base64, which needs no quotes around it."""
    return None if value is None else msgspec.json.encode(value).decode().strip('"')


class _Stream:
    """A sink that knows how far it has come, which is all that Parquet asks of one."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._at_bytes = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        """Pass on."""
        self._sink.write(data)
        self._at_bytes += len(data)
        return len(data)

    def tell(self) -> int:
        """How many bytes were written."""
        return self._at_bytes

    def flush(self) -> None:
        """Pass on."""
        self._sink.flush()

    def close(self) -> None:
        """The sink is whoever's that opened it."""
        self.closed = True


def main(arguments: list[str]) -> int:
    """`FOLDER WHERE ENDPOINT FORMAT MATURITY_US EVENT_TIME`: the export on standard output.

    FOLDER is the state's folder for archives, WHERE the setting of its place, maybe empty.

    A process of its own, so that a worker carries neither DuckDB nor the memory of a query,
    and behind everything else on the machine.
    """
    folder, where, endpoint, form, maturity_us, event_time = arguments
    os.nice(19)
    try:
        objects = objects_at(Path(folder), where)
        with ArchiveReader(Path(folder), objects=objects) as reader:
            export(
                reader,
                endpoint,
                msgspec.convert(form, Format),
                sys.stdout.buffer,
                maturity_us=int(maturity_us),
                event_time=msgspec.convert(event_time, EventTime),
            )
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        return 1  # whoever asked has gone
    except CorruptArchive as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
