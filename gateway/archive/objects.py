"""Where the files of an archive are: whole objects by path, in a folder or in a store of objects.

Rules: an object is seen as a whole or not at all, and is never changed; only the manifest is
put again, which replaces it as a whole. One process puts and deletes (the Evaluator, by its
lock), any may read. Nothing is renamed, appended to or locked: a store of objects cannot.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

#: What a put that breaks off leaves in a folder begins so.
BESIDE = ".new-"


class Objects(Protocol):
    """Objects by path, which is relative and has forward slashes. All raise OSError."""

    def put(self, path: str, write: Callable[[BinaryIO], object]) -> int:
        """Make what `write` writes the object at `path`, durably; its size in bytes."""

    def read(self, path: str) -> bytes:
        """The whole object. Raises FileNotFoundError."""

    def rows(self, path: str) -> pa.Table:
        """The rows of a Parquet object."""

    def delete(self, path: str) -> None:
        """Take the object away, if it is there."""

    def paths(self) -> Iterator[str]:
        """Every Parquet object, and what puts that broke off have left."""

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let DuckDB read the objects by their `name`."""

    def name(self, path: str) -> str:
        """What DuckDB calls the object at `path`."""


class Folder:
    """Files of a local folder: written beside, fsynced, then renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, path: str, write: Callable[[BinaryIO], object]) -> int:
        """See `Objects`; a rename is what makes it whole."""
        target = self._root / path
        _make_folder(target.parent)
        beside = target.with_name(f"{BESIDE}{target.name}")
        with beside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            size_bytes = os.fstat(file.fileno()).st_size
        beside.rename(target)
        _sync_folder(target.parent)
        return size_bytes

    def read(self, path: str) -> bytes:
        """See `Objects`."""
        return (self._root / path).read_bytes()

    def rows(self, path: str) -> pa.Table:
        """See `Objects`."""
        return pq.ParquetFile(self._root / path).read()

    def delete(self, path: str) -> None:
        """See `Objects`."""
        (self._root / path).unlink(missing_ok=True)

    def paths(self) -> Iterator[str]:
        """See `Objects`."""
        for found in (*self._root.rglob("*.parquet"), *self._root.glob(f"{BESIDE}*")):
            yield found.relative_to(self._root).as_posix()

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """DuckDB reads files as it is."""

    def name(self, path: str) -> str:
        """See `Objects`."""
        return str(self._root / path)


def _make_folder(folder: Path) -> None:
    """Make the folder and those above it, and their names durable."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
