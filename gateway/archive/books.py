# ruff: noqa: S608 - every name and text in this SQL goes through `quoted` or `literal`
"""The books: every journalled row and every label is somewhere, and the sums agree.

    journalled = ineligible + unsampled + compared + failed + timed_out + refused + expired
                 + pending

per registration, in rows. Each row is in exactly one of these states (see comparisons.py).
"""

from __future__ import annotations

import msgspec

from gateway.archive.comparisons import STATES, Scope, compared_rows, prediction_rows
from gateway.archive.final_labels import distinct_labels, in_time
from gateway.archive.tables import ArchiveReader
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


def books(reader: ArchiveReader, scope: Scope) -> Books:
    """The books of the registration over all that `scope` covers."""
    endpoint = scope.registration.endpoint
    until = scope.registration.closed_epoch
    rows = compared_rows(reader, scope, prediction_rows(reader, scope))
    states = reader.table(f"SELECT state, count(*) AS rows FROM {rows} GROUP BY state").to_pylist()
    journalled = reader.table(
        f"""SELECT count(*) AS rows FROM {reader.scan("predictions", endpoint)} AS p
        {scope.readable("p")}
        WHERE p.epoch >= {scope.registration.opened_epoch}
            AND {"true" if until is None else f"p.epoch < {until}"}"""
    )
    counts = {found["state"]: found["rows"] for found in states}
    return Books(journalled=journalled["rows"][0].as_py(), **counts)


def label_books(
    reader: ArchiveReader, endpoint: str, *, maturity_us: int, event_time: EventTime
) -> LabelBooks:
    """The labels of `endpoint` by what became of them."""
    column = "occurred_at" if event_time == "client" else "accepted_at"
    timely = in_time(maturity_us=maturity_us, event_time=event_time)
    received = _received(reader)
    (found,) = reader.table(
        f"""WITH matched AS (
            SELECT l.prediction_id, l.row, {timely} AS timely
            FROM {distinct_labels(reader.scan("labels", ""))} AS l JOIN (
                SELECT prediction_id, row, epoch_us({column}) AS event_us
                FROM {reader.scan("predictions", endpoint)}
            ) AS r ON r.prediction_id = l.prediction_id AND r.row = l.row
        )
        SELECT count(*) AS matched,
            count(*) FILTER (NOT coalesce(timely, false)) AS late,
            count(DISTINCT (prediction_id, row)) AS labelled_rows
        FROM matched"""
    ).to_pylist()
    return LabelBooks(
        **received,
        matched=found["matched"],
        corrections=found["matched"] - found["labelled_rows"],
        late=found["late"],
        labelled_rows=found["labelled_rows"],
        parked=_parked(reader),
    )


def _received(reader: ArchiveReader) -> dict[str, int]:
    (found,) = reader.table(
        f"""SELECT count(DISTINCT label_id) AS received,
            count(*) - count(DISTINCT label_id) AS duplicates FROM {reader.scan("labels", "")}"""
    ).to_pylist()
    return {"received": found["received"], "duplicates": found["duplicates"]}


def _parked(reader: ArchiveReader) -> int:
    """Labels of rows that no endpoint's archive has."""
    endpoints = {f.endpoint for f in reader.manifest.files if f.dataset == "predictions"}
    known = " UNION ALL ".join(
        f"SELECT prediction_id, row FROM {reader.scan('predictions', endpoint)}"
        for endpoint in sorted(endpoints)
    )
    known = known or "SELECT NULL::VARCHAR AS prediction_id, NULL::INTEGER AS row WHERE false"
    found = reader.table(
        f"""SELECT count(DISTINCT l.label_id) AS parked FROM {reader.scan("labels", "")} AS l
        ANTI JOIN ({known}) AS p ON p.prediction_id = l.prediction_id AND p.row = l.row"""
    )
    parked: int = found["parked"][0].as_py()
    return parked
