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


class LabelIndex:
    """Digests of labels, shared by all workers; for any thread.

    One connection, kept open: SQLite writes its log back when the last one is closed, which
    costs more than the labels of a request.
    """

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        self._connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
        # It is only an index: what a power cut takes from it, the journal still has.
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS labels (id BLOB PRIMARY KEY) WITHOUT ROWID"
        )

    def known(self, label_ids: Sequence[str]) -> set[str]:
        """Those of the hexadecimal digests that were recorded before."""
        found: set[str] = set()
        try:
            with self._lock:
                for chunk in _chunks(sorted(label_ids)):
                    marks = ",".join("?" * len(chunk))
                    query = f"SELECT id FROM labels WHERE id IN ({marks})"  # noqa: S608
                    rows = self._connection.execute(query, [bytes.fromhex(one) for one in chunk])
                    found.update(row[0].hex() for row in rows)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the label index cannot be read: {error}") from error
        return found

    def record(self, label_ids: Sequence[str]) -> None:
        """Remember digests, after their labels are in the journal."""
        try:
            with self._lock, self._connection:
                self._connection.executemany(
                    "INSERT OR IGNORE INTO labels VALUES (?)",
                    ((bytes.fromhex(one),) for one in sorted(label_ids)),
                )
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the label index cannot be written: {error}") from error


def _chunks(label_ids: Sequence[str]) -> Iterator[list[str]]:
    remaining = iter(label_ids)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk
