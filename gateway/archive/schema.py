"""The archive's columns: their names, their order and their types.

Rules of the format, which outlives every release: a column is only ever added; it never
changes its meaning or its type. Tensors are the exception, because models differ: a column
`inputs.<name>` or `outputs.<name>` holds one value where an item has one element and a list
otherwise, so two files may give one name two types. The manifest says which file has which,
and readers widen to the type that holds both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pyarrow as pa  # type: ignore[import-untyped]

Dataset = Literal["predictions", "shadows", "labels"]

INSTANT = pa.timestamp("us", tz="UTC")

#: Column → type, in order. `source_writer` and `source_end` say which frame of which journal
#: a row came from (the byte after it), which is what a checkpoint's `covered` speaks of.
FIXED: Mapping[Dataset, Mapping[str, pa.DataType]] = {
    "predictions": {
        "prediction_id": pa.string(),
        "row": pa.int32(),
        "accepted_at": INSTANT,
        "occurred_at": INSTANT,
        "endpoint": pa.string(),
        "epoch": pa.int64(),
        "served_version": pa.string(),
        "served_digest": pa.string(),
        "role": pa.string(),
        "exclusion": pa.string(),
        "status": pa.string(),
        "error": pa.string(),
        "unit_hash": pa.uint64(),
        "propensity": pa.float64(),
        "entity": pa.string(),
        "attributes": pa.string(),
        "client_request_id": pa.string(),
        "client": pa.string(),
        "trace_id": pa.string(),
        "span_id": pa.string(),
        "latency_us": pa.int64(),
        "queue_us": pa.int64(),
        "source_writer": pa.string(),
        "source_end": pa.int64(),
    },
    "shadows": {
        "prediction_id": pa.string(),
        "row": pa.int32(),
        "endpoint": pa.string(),
        "registration": pa.int64(),
        "version": pa.string(),
        "digest": pa.string(),
        "status": pa.string(),
        "error": pa.string(),
        "shadow_probability": pa.float64(),
        "started_at": INSTANT,
        "latency_us": pa.int64(),
        "batch_rows": pa.int64(),
        "champion_alone_us": pa.int64(),
        "challenger_alone_us": pa.int64(),
        "source_writer": pa.string(),
        "source_end": pa.int64(),
    },
    # A label is a number (`label`) or a text (`label_text`), never both.
    "labels": {
        "prediction_id": pa.string(),
        "row": pa.int32(),
        "label_id": pa.string(),
        "label": pa.float64(),
        "label_text": pa.string(),
        "observed_at": INSTANT,
        "received_at": INSTANT,
        "attributes": pa.string(),
        "source": pa.string(),
        "client": pa.string(),
        "source_writer": pa.string(),
        "source_end": pa.int64(),
    },
}

#: Columns whose few values repeat: a dictionary pays for them, and only slows the others.
REPEATING = (
    "endpoint", "served_version", "served_digest", "role", "exclusion", "status", "error",
    "entity", "client", "source", "source_writer", "version", "digest",
)  # fmt: skip

_SQL = {
    pa.bool_(): "BOOLEAN",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    INSTANT: "TIMESTAMPTZ",
}

_INTEGERS = ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "TINYINT", "SMALLINT", "INTEGER")
_NUMBERS = (*_INTEGERS, "BIGINT", "FLOAT", "DOUBLE", "BOOLEAN")


def sql_type(kind: pa.DataType) -> str:
    """The SQL type that reads a column of this Arrow type."""
    if pa.types.is_list(kind):
        return _SQL[kind.value_type] + "[]"
    return _SQL[kind]


def widened(one: str, other: str) -> str:
    """The SQL type that holds the values of both: a list if either is one."""
    if one == other:
        return one
    element = _widened_element(one.removesuffix("[]"), other.removesuffix("[]"))
    return element + "[]" if "[]" in (one[-2:], other[-2:]) else element


def _widened_element(one: str, other: str) -> str:
    if one == other:
        return one
    if one in _NUMBERS and other in _NUMBERS:
        return "BIGINT" if _are_small_integers(one, other) else "DOUBLE"
    return "BLOB" if "BLOB" in (one, other) else "VARCHAR"


def _are_small_integers(one: str, other: str) -> bool:
    return all(t in (*_INTEGERS, "BIGINT") and t != "UBIGINT" for t in (one, other))


def cast_sql(column: str, found: str, wanted: str) -> str:
    """SQL that turns a quoted `column` of type `found` into the wider type `wanted`."""
    if found == wanted:
        return column
    if wanted.endswith("[]") and not found.endswith("[]"):
        element = cast_sql(column, found, wanted.removesuffix("[]"))
        return f"CASE WHEN {column} IS NULL THEN NULL ELSE [{element}] END"
    if found == "VARCHAR" and wanted == "BLOB":
        return f"encode({column})"
    if found == "VARCHAR[]" and wanted == "BLOB[]":
        return f"list_transform({column}, lambda x: encode(x))"
    if wanted == "BLOB":  # a number beside bytes: its text
        return f"encode({column}::VARCHAR)"
    return f"{column}::{wanted}"


def quoted(name: str) -> str:
    """A name as an SQL identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal, whatever is in it."""
    return "'" + text.replace("'", "''") + "'"
