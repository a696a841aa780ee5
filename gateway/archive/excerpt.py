# ruff: noqa: S608 - every name and text in this SQL goes through `quoted` or `values`
"""An excerpt of the archive: all that was ever written of some predictions, at two moments.

Rules: the rows are held by the reader's connection until the next excerpt is taken; they are
read once, and can then be seen as the archive was when it ended at any offsets. Only columns
that something is counted by are held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.archive.manifest import ArchiveFile
from gateway.archive.schema import Dataset, quoted
from gateway.archive.tables import ArchiveReader, Keep, every, overlaps, values

#: By dataset and journal writer, the offset up to which rows are seen.
Ends = Mapping[Dataset, Mapping[str, int]]
#: A dataset of an endpoint; labels belong to none ("").
Table = tuple[Dataset, str]

#: The columns that are counted by; a tensor is one if it is an output.
_COUNTED: Mapping[Dataset, tuple[str, ...]] = {
    "predictions": (
        "prediction_id", "row", "accepted_at", "occurred_at", "epoch", "served_digest",
        "exclusion", "status", "entity", "latency_us", "source_writer", "source_end",
    ),
    "shadows": (
        "prediction_id", "row", "registration", "digest", "status", "started_at", "latency_us",
        "champion_alone_us", "challenger_alone_us", "source_writer", "source_end",
    ),
    "labels": (
        "prediction_id", "row", "label_id", "label", "label_text", "observed_at", "received_at",
        "source_writer", "source_end",
    ),
}  # fmt: skip


class Excerpt:
    """The held rows of some predictions as the archive was when it ended at `upto`."""

    def __init__(self, reader: ArchiveReader, upto: Ends) -> None:
        self._reader = reader
        self._upto = upto

    def types(self, dataset: Dataset, endpoint: str) -> dict[str, str]:
        """Those of the whole archive."""
        return self._reader.types(dataset, endpoint)

    def scan(self, dataset: Dataset, endpoint: str, keep: Keep = every) -> str:
        """SQL that can stand after FROM; what is held is small, so nothing is left out."""
        del keep
        held = quoted(_name((dataset, endpoint)))
        seen = self._upto.get(dataset, {})
        return f"(SELECT h.* FROM {held} AS h JOIN {_upto(seen, 'h')})"


def new_files(
    reader: ArchiveReader, table: Table, after: Mapping[str, int], upto: Mapping[str, int]
) -> list[ArchiveFile]:
    """The files that may hold rows of a table from between these offsets."""

    def is_new(file: ArchiveFile) -> bool:
        return any(
            first <= upto.get(writer, 0) and last > after.get(writer, 0)
            for writer, (first, last) in file.sources.items()
        )

    return reader.files(*table, keep=is_new)


def take_excerpt(
    reader: ArchiveReader,
    tables: Sequence[Table],
    held: Sequence[Table],
    *,
    after: Mapping[str, int],
    upto: Mapping[str, int],
) -> bool:
    """Hold all rows in the `held` tables of the predictions that one of `tables` has rows of
    from between these offsets; False if there is no such prediction."""
    rows = [_new_rows(reader, table, after, upto) for table in tables]
    reader.keep_as(
        "touched", f"SELECT DISTINCT prediction_id FROM ({' UNION ALL '.join(rows)}) AS n"
    )
    (ids,) = reader.table(
        "SELECT min(prediction_id) AS least, max(prediction_id) AS greatest FROM touched"
    ).to_pylist()
    if ids["least"] is None:
        return False
    for table in held:
        _hold(reader, table, overlaps((ids["least"], ids["greatest"])))
    return True


def _new_rows(
    reader: ArchiveReader, table: Table, after: Mapping[str, int], upto: Mapping[str, int]
) -> str:
    paths = {file.path for file in new_files(reader, table, after, upto)}
    rows = reader.scan(*table, keep=lambda file: file.path in paths)
    return (
        f"SELECT n.prediction_id FROM (SELECT n.* FROM {rows} AS n JOIN {_upto(upto, 'n')}) AS n "
        f"ANTI JOIN {_upto(after, 'n')}"
    )


def _hold(reader: ArchiveReader, table: Table, keep: Keep) -> None:
    outputs = [name for name in reader.types(*table) if name.startswith("outputs.")]
    columns = [quoted(name) for name in (*_COUNTED[table[0]], *outputs)]
    reader.keep_as(
        _name(table),
        f"""SELECT {", ".join(columns)} FROM {reader.scan(*table, keep=keep)}
        SEMI JOIN touched USING (prediction_id)""",
    )


def _upto(ends: Mapping[str, int], alias: str) -> str:
    """SQL to join with, of the rows that end at or before `ends`."""
    found = values(ends.items(), {"writer": "VARCHAR", "upto": "BIGINT"})
    return f"{found} AS e ON e.writer = {alias}.source_writer AND {alias}.source_end <= e.upto"


def _name(table: Table) -> str:
    return f"held {table[0]} {table[1]}"
