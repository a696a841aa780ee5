# ruff: noqa: S608 - every name and text in this SQL goes through `quoted` or `literal`
"""The books: every journalled row and every label is somewhere, and the sums agree.

    journalled = ineligible + unsampled + compared + failed + timed_out + refused + expired
                 + pending

per registration, in rows. Each row is in exactly one of these states (see comparisons.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from gateway.archive.comparisons import STATES, Scope, compared_rows, prediction_rows
from gateway.archive.final_labels import distinct_labels, in_time
from gateway.archive.manifest import Manifest
from gateway.archive.tables import ArchiveReader, Rows
from gateway.core.registration import EventTime


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """One registration's rows by what became of them; `journalled` is counted by itself."""

    journalled: int
    ineligible: int = 0
    unsampled: int = 0
    compared: int = 0
    failed: int = 0
    timed_out: int = 0
    refused: int = 0
    expired: int = 0
    pending: int = 0

    @property
    def balanced(self) -> bool:
        """Whether the states add up to what was journalled."""
        accounted: int = sum(getattr(self, state) for state in STATES)
        return self.journalled == accounted


class LabelBooks(msgspec.Struct, frozen=True, kw_only=True):
    """Labels of an endpoint's predictions, but for `parked`: those of no known row at all.

    `received` counts distinct labels and `duplicates` how often one was there again. `late`
    came after their row's horizon. `corrections` are labels beyond the first of a row.
    """

    received: int
    duplicates: int
    matched: int
    parked: int
    corrections: int
    late: int
    labelled_rows: int


def state_counts(reader: ArchiveReader, rows: str) -> Counter[str]:
    """How many of `rows` there are by state; they are SQL, those of `compared_rows`."""
    states = reader.table(f"SELECT state, count(*) AS rows FROM {rows} GROUP BY state").to_pylist()
    return Counter({found["state"]: found["rows"] for found in states})


def books(reader: ArchiveReader, scope: Scope) -> Books:
    """The books of the registration, counted over all that `scope` covers."""
    endpoint = scope.registration.endpoint
    until = scope.registration.closed_epoch
    journalled = reader.table(
        f"""SELECT count(*) AS rows FROM {reader.scan("predictions", endpoint)} AS p
        {scope.readable("p")}
        WHERE p.epoch >= {scope.registration.opened_epoch}
            AND {"true" if until is None else f"p.epoch < {until}"}"""
    )
    states = state_counts(reader, compared_rows(reader, scope, prediction_rows(reader, scope)))
    return Books(journalled=journalled["rows"][0].as_py(), **states)


def label_books(
    reader: ArchiveReader, endpoint: str, *, maturity_us: int, event_time: EventTime
) -> LabelBooks:
    """The labels of `endpoint` by what became of them, counted over the whole archive."""
    counts = label_counts(
        reader, reader, endpoint, prediction_endpoints(reader.manifest),
        maturity_us=maturity_us, event_time=event_time,
    )  # fmt: skip
    return label_books_of(counts)


def label_books_of(counts: Mapping[str, int]) -> LabelBooks:
    """The books that `label_counts` add up to."""
    found = {name: counts.get(name, 0) for name in _LABEL_COUNTS}
    return LabelBooks(**found, corrections=found["matched"] - found["labelled_rows"])


_LABEL_COUNTS = ("received", "duplicates", "matched", "late", "labelled_rows", "parked")


def prediction_endpoints(manifest: Manifest) -> list[str]:
    """The endpoints that the archive holds predictions of."""
    return sorted({file.endpoint for file in manifest.files if file.dataset == "predictions"})


def label_counts(
    reader: ArchiveReader,
    source: Rows,
    endpoint: str,
    endpoints: Iterable[str],
    *,
    maturity_us: int,
    event_time: EventTime,
) -> Counter[str]:
    """What `source` says of labels; sums over parts of an archive that share no prediction id.

    `endpoints` are all those whose predictions a label may be of.
    """
    column = "occurred_at" if event_time == "client" else "accepted_at"
    timely = in_time(maturity_us=maturity_us, event_time=event_time)
    (found,) = reader.table(
        f"""WITH matched AS (
            SELECT l.prediction_id, l.row, {timely} AS timely
            FROM {distinct_labels(source.scan("labels", ""))} AS l JOIN (
                SELECT prediction_id, row, epoch_us({column}) AS event_us
                FROM {source.scan("predictions", endpoint)}
            ) AS r ON r.prediction_id = l.prediction_id AND r.row = l.row
        )
        SELECT count(*) AS matched,
            count(*) FILTER (NOT coalesce(timely, false)) AS late,
            count(DISTINCT (prediction_id, row)) AS labelled_rows
        FROM matched"""
    ).to_pylist()
    received = reader.table(
        f"""SELECT count(DISTINCT label_id) AS received,
            count(*) - count(DISTINCT label_id) AS duplicates FROM {source.scan("labels", "")}"""
    ).to_pylist()
    return Counter({**found, **received[0], "parked": _parked(reader, source, endpoints)})


def _parked(reader: ArchiveReader, source: Rows, endpoints: Iterable[str]) -> int:
    """Labels of rows that no endpoint's archive has."""
    known = " UNION ALL ".join(
        f"SELECT prediction_id, row FROM {source.scan('predictions', endpoint)}"
        for endpoint in endpoints
    )
    known = known or "SELECT NULL::VARCHAR AS prediction_id, NULL::INTEGER AS row WHERE false"
    found = reader.table(
        f"""SELECT count(DISTINCT l.label_id) AS parked FROM {source.scan("labels", "")} AS l
        ANTI JOIN ({known}) AS p ON p.prediction_id = l.prediction_id AND p.row = l.row"""
    )
    parked: int = found["parked"][0].as_py()
    return parked
