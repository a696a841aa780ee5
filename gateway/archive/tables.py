# ruff: noqa: S608 - every name and text in this SQL goes through `quoted` or `literal`
"""Reading the archive: SQL over exactly the files that the manifest lists.

Rules: a reader sees the archive as its manifest was at the last `refresh`, whatever is
written meanwhile. Files are named one by one, never by a pattern, so a stray is never read.
Files that cannot hold what is asked are left out before DuckDB opens them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
from duckdb.func import PythonUDFType

from gateway.archive import manifest as manifests
from gateway.archive.manifest import SPILL, ArchiveFile, Manifest
from gateway.archive.objects import Folder, Objects
from gateway.archive.schema import FIXED, Dataset, cast_sql, literal, quoted, sql_type, widened
from gateway.core.split import is_sampled

Keep = Callable[[ArchiveFile], bool]


def every(_file: ArchiveFile) -> bool:
    """Keep every file."""
    return True


class Rows(Protocol):
    """Where SQL finds the rows of a dataset: a whole archive, or an excerpt of one."""

    def types(self, dataset: Dataset, endpoint: str) -> dict[str, str]:
        """Column → SQL type: the fixed columns, then the tensors by name."""

    def scan(self, dataset: Dataset, endpoint: str, keep: Keep = every) -> str:
        """SQL that can stand after FROM; `keep` may leave out files without such rows."""


class ArchiveReader:
    """A DuckDB connection over an archive. Use it in one thread at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        objects: Objects | None = None,
        threads: int = 1,
        memory_limit_mb: int = 512,
    ) -> None:
        """Raises CorruptArchive. Its files are in `folder`, unless `objects` are given: then
        only what outgrows the memory goes there. A place without an archive reads as empty."""
        self._objects = objects or Folder(folder)
        self._manifest = manifests.load(self._objects)
        self._types: dict[tuple[Dataset, str], dict[str, str]] = {}
        #: Of tables that are held from one pass to the next, how far they have come.
        self.kept_upto: dict[str, int] = {}
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "threads": threads,
                "memory_limit": f"{memory_limit_mb}MB",
                "temp_directory": str(folder / _spill_name()),
                "preserve_insertion_order": False,
            },
        )
        self._objects.attach(self._connection)
        # The kernel caches files already. Caches of DuckDB's own saved no CPU over an archive of
        # a million predictions and let a soaked Evaluator grow by 1.6 MB a thousand requests.
        self._connection.execute("SET TimeZone = 'UTC'; SET enable_external_file_cache = false")
        self._connection.create_function(
            "is_sampled",
            _are_sampled,
            ["VARCHAR", "VARCHAR", "BIGINT"],
            "BOOLEAN",
            type=PythonUDFType.ARROW,
        )

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._connection.close()

    def refresh(self) -> None:
        """See what was flushed since."""
        self._manifest = manifests.load(self._objects)
        self._types.clear()

    @property
    def objects(self) -> Objects:
        """Where the files are."""
        return self._objects

    @property
    def manifest(self) -> Manifest:
        """The archive as this reader sees it."""
        return self._manifest

    def files(self, dataset: Dataset, endpoint: str, keep: Keep = every) -> list[ArchiveFile]:
        """The files of a dataset that `keep` wants; labels belong to no endpoint ("")."""
        return [
            file
            for file in self._manifest.files
            if file.dataset == dataset and file.endpoint == endpoint and keep(file)
        ]

    def types(self, dataset: Dataset, endpoint: str) -> dict[str, str]:
        """Column → SQL type, over all files: the fixed columns, then the tensors by name."""
        if (dataset, endpoint) not in self._types:
            self._types[dataset, endpoint] = self._united(dataset, endpoint)
        return self._types[dataset, endpoint]

    def _united(self, dataset: Dataset, endpoint: str) -> dict[str, str]:
        tensors: dict[str, str] = {}
        for file in self.files(dataset, endpoint):
            for name, kind in file.tensors.items():
                tensors[name] = widened(tensors.get(name, kind), kind)
        fixed = {name: sql_type(kind) for name, kind in FIXED[dataset].items()}
        return {**fixed, **dict(sorted(tensors.items()))}

    def scan(self, dataset: Dataset, endpoint: str, keep: Keep = every) -> str:
        """SQL that can stand after FROM: the rows of the kept files, with all of `types`."""
        types = self.types(dataset, endpoint)
        alike: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for file in self.files(dataset, endpoint, keep):
            paths = alike.setdefault(tuple(sorted(file.tensors.items())), [])
            paths.append(literal(self._objects.name(file.path)))
        fixed = {name: types[name] for name in FIXED[dataset]}
        selects = [
            f"SELECT {_columns(types, {**fixed, **dict(tensors)})} "
            f"FROM read_parquet([{', '.join(paths)}])"
            for tensors, paths in alike.items()
        ]
        return f"({' UNION ALL '.join(selects or [_no_rows(types)])})"

    def table(self, query: str) -> pa.Table:
        """The rows of `query`."""
        return self._connection.sql(query).to_arrow_table()

    def batches(self, query: str, *, rows: int) -> pa.RecordBatchReader:
        """The rows of `query`, some at a time."""
        return self._connection.sql(query).to_arrow_reader(rows)

    def keep_as(self, name: str, query: str) -> None:
        """Hold the rows of `query` in a table of this connection until it is replaced."""
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {quoted(name)} AS {query}")

    def keep_more(self, name: str, query: str) -> None:
        """Add the rows of `query` to a table that is held."""
        self._connection.execute(f"INSERT INTO {quoted(name)} {query}")


def overlaps(ids: tuple[str, str]) -> Keep:
    """Keep files that may hold a prediction id from `ids[0]` to `ids[1]`."""
    least, greatest = ids
    return lambda file: file.prediction_ids[0] <= greatest and least <= file.prediction_ids[1]


def values(rows: Iterable[Sequence[str | int | float]], columns: dict[str, str]) -> str:
    """SQL that can stand after FROM: these rows, with the names and types of `columns`."""
    lines = [f"({', '.join(map(_constant, row))})" for row in rows]
    if not lines:
        return f"({_no_rows(columns)})"
    names = [f"c{place}" for place in range(len(columns))]
    typed = [
        f"{name}::{kind} AS {quoted(column)}"
        for name, (column, kind) in zip(names, columns.items(), strict=True)
    ]
    return f"(SELECT {', '.join(typed)} FROM (VALUES {', '.join(lines)}) v({', '.join(names)}))"


def _spill_name() -> str:
    """A folder of this reader's own: two that share one would overwrite each other's pages."""
    return f"{SPILL}{os.getpid()}-{secrets.token_hex(4)}"


def _constant(value: str | float) -> str:
    return literal(value) if isinstance(value, str) else repr(value)


def _columns(wanted: dict[str, str], found: dict[str, str]) -> str:
    return ", ".join(
        f"{_column(quoted(name), kind, found.get(name))} AS {quoted(name)}"
        for name, kind in wanted.items()
    )


def _column(column: str, wanted: str, found: str | None) -> str:
    return f"NULL::{wanted}" if found is None else cast_sql(column, found, wanted)


def _no_rows(types: dict[str, str]) -> str:
    return f"SELECT {_columns(types, {})} WHERE false"


def _are_sampled(ids: pa.Array, keys: pa.Array, probabilities_bp: pa.Array) -> pa.Array:
    rows = zip(ids.to_pylist(), keys.to_pylist(), probabilities_bp.to_pylist(), strict=True)
    return pa.array(
        [is_sampled(one, key=bytes.fromhex(key), probability_bp=share) for one, key, share in rows],
        type=pa.bool_(),
    )
