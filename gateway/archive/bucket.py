"""Objects on a pyarrow filesystem: S3 and what speaks like it, or anything that fsspec knows.

Rules: an object is put in one piece and never written to; nothing is renamed. The place must
show an object only when all of it is there, and replace one as a whole, as stores of objects do.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from fsspec.implementations.arrow import ArrowFSWrapper  # type: ignore[import-untyped]
from pyarrow import fs as pa_fs

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Bucket:
    """The objects below `root` of a filesystem."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._files = pa_fs.SubTreeFileSystem(root, filesystem)
        # The manifest is asked for twice a second, and only this process puts it.
        self._own: dict[str, bytes] = {}

    def put(self, path: str, write: Callable[[BinaryIO], object]) -> int:
        """See `Objects`. Held in memory first: what breaks off while it is made is never sent."""
        held = io.BytesIO()
        write(held)
        content = held.getvalue()
        self._own.pop(path, None)
        with _as_os_error():
            try:
                self._send(path, content)
            except FileNotFoundError:  # unlike a store of objects, some have folders
                self._files.create_dir(str(PurePosixPath(path).parent), recursive=True)
                self._send(path, content)
        if "/" not in path:
            self._own[path] = content
        return len(content)

    def _send(self, path: str, content: bytes) -> None:
        with self._files.open_output_stream(path) as file:
            file.write(content)

    def read(self, path: str) -> bytes:
        """See `Objects`."""
        if path in self._own:
            return self._own[path]
        with _as_os_error(), self._files.open_input_file(path) as file:
            return bytes(file.read())

    def rows(self, path: str) -> pa.Table:
        """See `Objects`."""
        with _as_os_error(), self._files.open_input_file(path) as file:
            return pq.ParquetFile(file).read()

    def delete(self, path: str) -> None:
        """See `Objects`."""
        self._own.pop(path, None)
        with _as_os_error():
            try:
                self._files.delete_file(path)
            except FileNotFoundError:
                return

    def paths(self) -> Iterator[str]:
        """See `Objects`."""
        with _as_os_error():
            everything = pa_fs.FileSelector("", recursive=True, allow_not_found=True)
            found = [one.path for one in self._files.get_file_info(everything)]
        yield from (path for path in found if path.endswith(".parquet"))

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """See `Objects`."""
        wrapper = ArrowFSWrapper(self._files, skip_instance_cache=True)
        # DuckDB asks when a file was changed, which not every filesystem can say. None ever is.
        wrapper.modified = lambda _path: _NEVER
        connection.register_filesystem(wrapper)

    def name(self, path: str) -> str:
        """See `Objects`. The protocol is the wrapper's; the third slash ends an empty host."""
        return f"{self._files.type_name}:///{path}"


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Whatever a filesystem raises of its own is one: the caller tries again."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
