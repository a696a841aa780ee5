"""What the control store must know of SQLite, and nothing else in the project does.

Rules: only settings of the database and the two things that SQL has no common words for:
taking the write lock at the beginning of a transaction, and noticing another process's commit.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event

from gateway.errors import InvalidSetting, StoreUnavailable

#: The Evaluator writes at idle priority: on a busy machine it may hold the lock for seconds, and
#: an operator had rather wait than be refused.
_BUSY_TIMEOUT_S = 20.0


def open_engine(url: URL, *, identity: str | None) -> Engine:
    """An engine on a file; the folder must exist. Raises InvalidSetting for one in memory.

    With an `identity` the file must be there and hold it; without, it is made.
    """
    if not url.database or url.database == ":memory:":
        raise InvalidSetting(
            f"store {url}: name a file, as in sqlite:////var/lib/audition/store.db"
        )
    # A connection may be used by any thread, one at a time: the pool sees to that.
    path, mode = Path(url.database).absolute(), "rwc" if identity is None else "rw"
    engine = create_engine(url, creator=lambda: _connect(path, mode))
    event.listen(engine, "connect", _set_up(path, identity))
    event.listen(engine, "begin", _begin)
    return engine


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        check_same_thread=False,
    )


def _require_identity(connection: sqlite3.Connection, identity: str) -> None:
    try:
        row = connection.execute("SELECT id FROM store_identity").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        row = None
    if row is None or row[0] != identity:
        connection.close()
        found = "an empty one" if row is None else "another one"
        raise sqlite3.OperationalError(f"the file is no longer the store, but {found}")


def _set_up(path: Path, identity: str | None) -> Any:
    def on_connect(connection: sqlite3.Connection, record: Any) -> None:
        connection.isolation_level = None  # we begin transactions ourselves
        if identity is not None:
            _require_identity(connection, identity)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a decision outlives a power cut
        connection.execute("PRAGMA foreign_keys = ON")
        record.info["file"] = _identity(path)

    return on_connect


def _begin(connection: Connection) -> None:
    # Taking the write lock first turns a lost race into a wait instead of an error midway.
    writes = connection.get_execution_options().get("writes", False)
    if writes:
        _require_same_file(connection)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _require_same_file(connection: Connection) -> None:
    """A commit into a file that was moved away would succeed and be lost."""
    path = Path(connection.engine.url.database or "")
    if connection.connection.info.get("file") != _identity(path):
        connection.invalidate()
        raise StoreUnavailable(f"the control store's file {path.name} was moved or replaced")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_dev, stat.st_ino)


class ChangeCounter:
    """SQLite's own counter of commits by other connections, read on a connection of its own.

    That connection never writes, so this process's commits count too. One read takes about
    3 µs: no query is planned, one word of shared memory is compared.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._connection: Any = None

    def read(self) -> int:
        """Raises StoreUnavailable where the database cannot be read."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                row = self._connection.execute("PRAGMA data_version").fetchone()
            except sqlite3.Error as error:
                self._connection = None
                raise StoreUnavailable(f"the control store cannot be reached: {error}") from error
        return int(row[0])

    def close(self) -> None:
        """Give the connection back to the system."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> Any:
        pooled = self._engine.raw_connection()
        connection = pooled.driver_connection
        pooled.detach()  # out of the pool: it stays ours
        return connection
