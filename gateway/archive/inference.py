# ruff: noqa: S608 - every name and text in this SQL goes through `quoted` or `literal`
"""The inference table: one row per predicted row, with every version's answer and the label.

Rules: it is a view, never a file, so a label that comes in rewrites nothing. Beside the
columns of `predictions` a row has, for each version v that ever answered or ran in shadow,
`versions.<v>.answered` (live or shadow), `.status`, `.latency_us` and `.outputs.<name>`, then
the final label by the rule of `core/labels.py`, and `labels`, how many there are in all.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gateway.archive.final_labels import distinct_labels, final_labels
from gateway.archive.manifest import ArchiveFile
from gateway.archive.schema import Dataset, cast_sql, literal, quoted, widened
from gateway.archive.tables import ArchiveReader, Keep, every, overlaps
from gateway.core.registration import EventTime

_CHUNK_ROWS = 100_000


class InferenceTable(msgspec.Struct, frozen=True, kw_only=True):
    """What the table of one endpoint looks like: its versions with their outputs' types."""

    endpoint: str
    maturity_us: int
    event_time: EventTime
    versions: dict[str, dict[str, str]]


def inference_table(
    reader: ArchiveReader, endpoint: str, *, maturity_us: int, event_time: EventTime
) -> InferenceTable:
    """The table of `endpoint` as the archive is now."""
    versions: dict[str, dict[str, str]] = {}
    answered = (
        _answered(reader, "predictions", endpoint, "served_version"),
        _answered(reader, "shadows", endpoint, "version"),
    )
    for found in answered:
        for name, outputs in found.items():
            known = versions.setdefault(name, {})
            for output, kind in outputs.items():
                known[output] = widened(known.get(output, kind), kind)
    return InferenceTable(
        endpoint=endpoint,
        maturity_us=maturity_us,
        event_time=event_time,
        versions=dict(sorted(versions.items())),
    )


def whole_table(reader: ArchiveReader, table: InferenceTable) -> str:
    """SQL of all rows, in no order."""
    return _rows(reader, table, every, every)


def chunks(reader: ArchiveReader, table: InferenceTable) -> Iterator[str]:
    """SQL of all rows, some at a time in the order of their ids; at least one, maybe empty.

    Each reads only the files that its ids may be in, so memory does not grow with the table.
    """
    files = sorted(
        reader.files("predictions", table.endpoint), key=lambda file: file.prediction_ids
    )
    for part in _parts(files):
        paths = {file.path for file in part}
        ids = (
            min((file.prediction_ids[0] for file in part), default=""),
            max((file.prediction_ids[1] for file in part), default=""),
        )
        rows = _rows(reader, table, _one_of(paths), overlaps(ids))
        yield f"SELECT * FROM {rows} ORDER BY prediction_id, row"


def _one_of(paths: set[str]) -> Keep:
    return lambda file: file.path in paths


def _parts(files: list[ArchiveFile]) -> Iterator[list[ArchiveFile]]:
    part: list[ArchiveFile] = []
    for file in files:
        part.append(file)
        if sum(one.rows for one in part) >= _CHUNK_ROWS:
            yield part
            part = []
    if part or not files:
        yield part


def _answered(
    reader: ArchiveReader, dataset: Dataset, endpoint: str, version: str
) -> dict[str, dict[str, str]]:
    """By version, the outputs that it ever gave and their types."""
    types = reader.types(dataset, endpoint)
    outputs = [name for name in types if name.startswith("outputs.")]
    given = ", ".join(["count(*)", *(f"count({quoted(name)})" for name in outputs)])
    found = reader.table(
        f"SELECT {version}, {given} FROM {reader.scan(dataset, endpoint)} "
        f"WHERE {version} <> '' GROUP BY {version}"
    )
    rows = zip(*(column.to_pylist() for column in found.columns), strict=True)
    return {
        name: {o: types[o] for o, n in zip(outputs, counts, strict=True) if n}
        for name, _, *counts in rows
    }


def _rows(reader: ArchiveReader, table: InferenceTable, keep: Keep, related: Keep) -> str:
    """SQL of the rows in the kept prediction files, joined with what `related` files say."""
    endpoint = table.endpoint
    own = ", ".join(f"p.{quoted(name)}" for name in reader.types("predictions", endpoint))
    answers = [
        _version_columns(reader, table, version, f"s{place}")
        for place, version in enumerate(table.versions)
    ]
    joins = [
        f"LEFT JOIN {_shadows(reader, endpoint, version, related)} AS s{place} "
        f"ON s{place}.prediction_id = p.prediction_id AND s{place}.row = p.row"
        for place, version in enumerate(table.versions)
    ]
    return f"""(
        WITH asked AS (
            SELECT *, epoch_us({"occurred_at" if table.event_time == "client" else "accepted_at"})
                AS event_us
            FROM {reader.scan("predictions", endpoint, keep)}
        ), given AS (SELECT * FROM {distinct_labels(reader.scan("labels", "", related))})
        SELECT {", ".join([own, *answers])}, f.label, f.label_text,
            make_timestamptz(f.observed_us) AS label_observed_at,
            make_timestamptz(f.received_us) AS label_received_at, coalesce(n.labels, 0) AS labels
        FROM asked AS p {" ".join(joins)}
        LEFT JOIN {_final(table)} AS f ON f.prediction_id = p.prediction_id AND f.row = p.row
        LEFT JOIN (SELECT prediction_id, row, count(*) AS labels FROM given GROUP BY ALL) AS n
            ON n.prediction_id = p.prediction_id AND n.row = p.row
    )"""


def _final(table: InferenceTable) -> str:
    return final_labels(
        "given", "asked", maturity_us=table.maturity_us, event_time=table.event_time
    )


def _shadows(reader: ArchiveReader, endpoint: str, version: str, related: Keep) -> str:
    """SQL of a version's shadow runs, each row's first one (see comparisons.py)."""
    return f"""(
        SELECT DISTINCT ON (prediction_id, row) * FROM {reader.scan("shadows", endpoint, related)}
        WHERE version = {literal(version)}
        ORDER BY prediction_id, row, started_at, source_writer, source_end
    )"""


def _version_columns(
    reader: ArchiveReader, table: InferenceTable, version: str, shadow: str
) -> str:
    """SQL of what one version answered, whichever way it was asked."""
    is_live = f"p.served_version = {literal(version)}"
    answered = (
        f"CASE WHEN {is_live} THEN 'live' WHEN {shadow}.prediction_id IS NOT NULL THEN 'shadow' END"
    )
    columns = {"answered": answered}
    for name in ("status", "latency_us"):
        columns[name] = f"CASE WHEN {is_live} THEN p.{name} ELSE {shadow}.{name} END"
    live_types = reader.types("predictions", table.endpoint)
    run_types = reader.types("shadows", table.endpoint)
    for output, kind in table.versions[version].items():
        live = _output("p", output, live_types.get(output), kind)
        run = _output(shadow, output, run_types.get(output), kind)
        columns[output] = f"CASE WHEN {is_live} THEN {live} ELSE {run} END"
    return ", ".join(
        f"{sql} AS {quoted(f'versions.{version}.{name}')}" for name, sql in columns.items()
    )


def _output(alias: str, output: str, found: str | None, wanted: str) -> str:
    if found is None:
        return f"NULL::{wanted}"
    return cast_sql(f"{alias}.{quoted(output)}", found, wanted)
