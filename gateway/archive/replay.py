# ruff: noqa: S608 - every name and text in this SQL goes through `quoted` or `literal`
"""Earlier traffic, to be run again: which archived rows can be, and a scratch archive for that.

Rules: the archive itself is only read. What is run again is written, with the runs, into an
archive of the caller's own, which is an archive like any other: whatever reads one reads it.
Every row of the endpoint in the time asked for is in exactly one of `COUNTED`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]

from gateway.archive import manifest as manifests
from gateway.archive.columns import Framed, shadow_tables
from gateway.archive.files import write_file
from gateway.archive.manifest import ArchiveFile, Manifest
from gateway.archive.objects import Folder, Objects
from gateway.archive.schema import FIXED, Dataset, literal, quoted
from gateway.archive.tables import ArchiveReader, Keep
from gateway.core.registration import EventTime

#: Why a row cannot be run again; `eligible` rows can. Exclusions are those of the record.
COUNTED = (
    "eligible", "not_captured", "undecodable", "pinned", "overload", "other_version",
    "without_time", "without_entity",
)  # fmt: skip
#: So many rows are sorted at once; a file is never cut.
_PART_ROWS = 100_000
_BATCH_ROWS = 2_048


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are asked for: those that `digest` answered, since ≤ time < until."""

    endpoint: str
    digest: str
    event_time: EventTime
    since_us: int | None = None
    until_us: int | None = None
    needs_entity: bool = False

    @property
    def event_us(self) -> str:
        """SQL of a row's time on the endpoint's clock."""
        return f"epoch_us({'occurred_at' if self.event_time == 'client' else 'accepted_at'})"

    @property
    def in_time(self) -> str:
        """SQL of whether a row lies in the time asked for; one without a time may."""
        least = "true" if self.since_us is None else f"{self.event_us} >= {self.since_us}"
        most = "true" if self.until_us is None else f"{self.event_us} < {self.until_us}"
        return f"coalesce({least} AND {most}, true)"


def count_rows(reader: ArchiveReader, wanted: Wanted) -> dict[str, int]:
    """How many rows there are, by `COUNTED`."""
    found = reader.table(
        f"""SELECT {_kind(reader, wanted)} AS kind, count(*) AS rows
        FROM {reader.scan("predictions", wanted.endpoint)} WHERE {wanted.in_time} GROUP BY kind"""
    ).to_pylist()
    counts = {one["kind"]: one["rows"] for one in found}
    return {kind: counts.get(kind, 0) for kind in COUNTED}


def newest_after(reader: ArchiveReader, wanted: Wanted, *, rows: int) -> str:
    """The id behind which there are no more than so many eligible rows, of whole predictions."""
    found = reader.table(
        f"""SELECT prediction_id FROM {reader.scan("predictions", wanted.endpoint)}
        WHERE {wanted.in_time} AND {_kind(reader, wanted)} = 'eligible'
        ORDER BY prediction_id DESC LIMIT 1 OFFSET {rows}"""
    )["prediction_id"]
    return found[0].as_py() if len(found) else ""


def eligible(reader: ArchiveReader, wanted: Wanted, *, after_id: str) -> Iterator[pa.RecordBatch]:
    """The eligible rows, those of one prediction one behind the other; few at a time."""
    for part in _parts(reader.files("predictions", wanted.endpoint)):
        rows = reader.scan("predictions", wanted.endpoint, _one_of({file.path for file in part}))
        yield from reader.batches(
            f"""SELECT * FROM {rows}
            WHERE {wanted.in_time} AND {_kind(reader, wanted)} = 'eligible'
                AND prediction_id > {literal(after_id)}
            ORDER BY prediction_id, row""",
            rows=_BATCH_ROWS,
        )


def carried_inputs(reader: ArchiveReader, endpoint: str) -> list[str]:
    """The inputs that any archived request of the endpoint carried."""
    types = reader.types("predictions", endpoint)
    return [name.removeprefix("inputs.") for name in types if name.startswith("inputs.")]


def _one_of(paths: set[str]) -> Keep:
    return lambda file: file.path in paths


def _parts(files: Sequence[ArchiveFile]) -> Iterator[list[ArchiveFile]]:
    part: list[ArchiveFile] = []
    for file in sorted(files, key=lambda one: one.prediction_ids):
        part.append(file)
        if sum(one.rows for one in part) >= _PART_ROWS:
            yield part
            part = []
    if part:
        yield part


def _kind(reader: ArchiveReader, wanted: Wanted) -> str:
    inputs = [f"inputs.{name}" for name in carried_inputs(reader, wanted.endpoint)]
    carries_none = " AND ".join(f"{quoted(name)} IS NULL" for name in inputs) or "true"
    return f"""CASE
        WHEN exclusion <> '' THEN exclusion
        WHEN served_digest <> {literal(wanted.digest)} THEN 'other_version'
        WHEN {carries_none} THEN 'not_captured'
        WHEN {wanted.event_us} IS NULL THEN 'without_time'
        WHEN {str(wanted.needs_entity).lower()} AND entity IS NULL THEN 'without_entity'
        ELSE 'eligible' END"""


class ScratchArchive:
    """An archive of what was run again, beside the labels of the archive that was read."""

    def __init__(self, folder: Path, labels: Sequence[ArchiveFile], source: Objects) -> None:
        """`folder` must not exist; the `labels` are copied from `source`."""
        folder.mkdir(parents=True)
        self._objects = Folder(folder)
        self._files = list(labels)
        for file in labels:
            content = source.read(file.path)
            self._objects.put(file.path, partial(_write, content))
        self._swap()

    def add(self, predictions: pa.Table, shadows: Sequence[Framed]) -> list[str]:
        """Write some predictions and their runs; the paths of their files."""
        kept = [name for name in predictions.column_names if not name.startswith("inputs.")]
        endpoint = predictions["endpoint"][0].as_py()
        added = [self._write("predictions", endpoint, _typed(predictions.select(kept)))]
        added += [self._write("shadows", endpoint, table) for table in shadow_tables(shadows)]
        self._swap()
        return added

    def _write(self, dataset: Dataset, endpoint: str, table: pa.Table) -> str:
        name = f"{len(self._files):09d}.parquet"
        file = write_file(self._objects, dataset, endpoint, name, table)
        self._files.append(file)
        return file.path

    def _swap(self) -> None:
        manifests.swap(self._objects, Manifest(files=tuple(self._files)))


def _write(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _typed(table: pa.Table) -> pa.Table:
    fixed = FIXED["predictions"]
    fields = [pa.field(f.name, fixed.get(f.name, f.type)) for f in table.schema]
    return table.cast(pa.schema(fields))
