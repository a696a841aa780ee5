"""A store of objects below a folder, for fsspec: a second implementation that has few abilities.

An object is there once its stream is closed, and can be replaced; there are no folders, no
renames and nothing can be appended. Processes share it: it is files, named by their keys.
"""

from __future__ import annotations

import io
import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow.fs as pa_fs  # type: ignore[import-untyped]
from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

from gateway.archive.bucket import Bucket

#: The variable that says where the objects of a process are that opens them by URL.
ROOT = "TEST_OBJECTS"


def bucket(folder: Path) -> Bucket:
    """The objects below `folder`, as another process would open them."""
    return Bucket(pa_fs.PyFileSystem(pa_fs.FSSpecHandler(WholeObjects(str(folder)))), "a/archive")


class WholeObjects(AbstractFileSystem):  # type: ignore[misc]
    """Objects by key, each in a file whose name is its quoted key."""

    protocol = "objects"
    cachable = False

    def __init__(self, root: str = "") -> None:
        super().__init__()
        self._root = Path(root or os.environ[ROOT])
        self._root.mkdir(parents=True, exist_ok=True)

    def _file(self, path: str) -> Path:
        return self._root / quote(self._key(path), safe="")

    def _key(self, path: str) -> str:
        return str(self._strip_protocol(path)).strip("/")

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """A key's object, or what would be a folder if there were any."""
        key, file = self._key(path), self._file(path)
        if file.is_file():
            return {"name": key, "size": file.stat().st_size, "type": "file"}
        if any(unquote(one.name).startswith(f"{key}/") for one in self._root.iterdir()):
            return {"name": key, "size": 0, "type": "directory"}
        raise FileNotFoundError(key)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:  # noqa: FBT001, FBT002
        """What begins with a key, up to the next slash."""
        start = f"{self._key(path)}/"
        keys = [key for one in self._root.iterdir() if (key := unquote(one.name)).startswith(start)]
        names = sorted({start + key.removeprefix(start).partition("/")[0] for key in keys})
        return [self.info(name) for name in names] if detail else names

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        if mode == "rb":
            return self._file(path).open("rb")
        if mode == "wb":
            return _Upload(self._file(path))
        raise NotImplementedError(f"{mode}: an object is written once")

    def _rm(self, path: str) -> None:
        self._file(path).unlink()

    def mkdir(self, path: str, *_: Any, **__: Any) -> None:
        """There are no folders."""

    makedirs = mkdir


class _Upload(io.BytesIO):
    """An object on its way."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def close(self) -> None:
        """Now it is there."""
        if not self.closed:
            beside = self._file.with_name(f"upload {secrets.token_hex(8)}")
            beside.write_bytes(self.getvalue())
            beside.replace(self._file)
        super().close()
