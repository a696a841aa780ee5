"""Which labels are known already, so that sending one again is told apart from a new one.

A file of digests beside the journal. It is written after the journal: a crash in between
makes a label that is sent again look new, it is then journalled twice, and the archive's
readers, which go by the same digest, see it once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from gateway.errors import StoreUnavailable

_CHUNK = 500


class LabelIndex:
    """Digests of labels, shared by all workers; a connection a call, for any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(self._connect()) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS labels (id BLOB PRIMARY KEY) WITHOUT ROWID"
            )

    def known(self, label_ids: Sequence[str]) -> set[str]:
        """Those of the hexadecimal digests that were recorded before."""
        found: set[str] = set()
        try:
            with closing(self._connect()) as connection:
                for chunk in _chunks(label_ids):
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
            with closing(self._connect()) as connection, connection:
                connection.executemany(
                    "INSERT OR IGNORE INTO labels VALUES (?)",
                    ((bytes.fromhex(one),) for one in label_ids),
                )
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the label index cannot be written: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=10)
        # It is only an index: what a power cut takes from it, the journal still has.
        connection.execute("PRAGMA synchronous=OFF")
        return connection


def _chunks(label_ids: Sequence[str]) -> Iterator[list[str]]:
    remaining = iter(label_ids)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk
