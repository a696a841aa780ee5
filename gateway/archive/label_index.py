"""Which labels are known already, so that sending one again is told apart from a new one.

A file of digests beside the journal. It is written after the journal: a crash in between
makes a label that is sent again look new, it is then journalled twice, and the archive's
readers, which go by the same digest, see it once. Digests are taken in sorted order, and
begin with a time: what is looked up together lies on few pages, however many there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from threading import Lock

from gateway.errors import StoreUnavailable

_CHUNK = 500


def prepare_index(path: Path) -> None:
    """Make the index before any process uses it.

    What is there and no index is begun anew: then labels that are sent again are journalled
    again, which is better than labels that nobody can send. Processes that all turned a new
    file into one with a write-ahead log would lock each other out.
    """
    try:
        _connect(path).close()
    except sqlite3.OperationalError as error:  # no space, no right: not the file's fault
        raise StoreUnavailable(f"the label index {path} cannot be opened: {error}") from error
    except sqlite3.DatabaseError:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        _connect(path).close()


class LabelIndex:
    """Digests of labels, shared by all workers; for any thread.

    One connection, kept open from the first use: SQLite writes its log back when the last one
    is closed, which costs more than the labels of a request. An index that cannot be opened
    keeps nobody from predicting.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None

    def known(self, label_ids: Sequence[str]) -> set[str]:
        """Those of the hexadecimal digests that were recorded before."""
        found: set[str] = set()
        try:
            with self._lock:
                connection = self._opened()
                for chunk in _chunks(sorted(label_ids)):
                    marks = ",".join("?" * len(chunk))
                    query = f"SELECT id FROM labels WHERE id IN ({marks})"  # noqa: S608
                    rows = connection.execute(query, [bytes.fromhex(one) for one in chunk])
                    found.update(row[0].hex() for row in rows)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the label index cannot be read: {error}") from error
        return found

    def record(self, label_ids: Sequence[str]) -> None:
        """Remember digests, after their labels are in the journal."""
        try:
            with self._lock, self._opened() as connection:
                connection.executemany(
                    "INSERT OR IGNORE INTO labels VALUES (?)",
                    ((bytes.fromhex(one),) for one in sorted(label_ids)),
                )
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the label index cannot be written: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = _connect(self._path)
        return self._connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
    try:
        # It is only an index: what a power cut takes from it, the journal still has.
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS labels (id BLOB PRIMARY KEY) WITHOUT ROWID")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _chunks(label_ids: Sequence[str]) -> Iterator[list[str]]:
    remaining = iter(label_ids)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk
