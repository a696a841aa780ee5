# ruff: noqa: S608 - the only names in this SQL are ours
"""Entities and their windows: one observation from the rows of a user, a day, a patient.

A window opens at the entity's first row that is not late and is used once; why no row that
comes later can move it stands in passes.py.
"""

from __future__ import annotations

from gateway.archive.comparisons import Scope, compared_rows, prediction_rows
from gateway.archive.schema import quoted
from gateway.archive.tables import ArchiveReader, Keep
from gateway.judge.evidence_state import LateRange
from gateway.judge.lateness import is_late
from gateway.judge.spans import BEGINNING_US, Span, at_times, of_ids


def keep_windows(
    reader: ArchiveReader, scope: Scope, span: Span, ranges: tuple[LateRange, ...]
) -> None:
    """Hold the entities seen lately as `windows`; `start` is NULL where it was used before."""

    def rows(after_us: int, upto_us: int, keep: Keep) -> str:
        within = f"{scope.event_us} > {after_us} AND {scope.event_us} <= {upto_us}"
        found = prediction_rows(reader, scope, where=within, keep=keep)
        return f"""(SELECT entity, event_us FROM {found} WHERE standing = 'wanted'
            AND entity IS NOT NULL AND NOT {is_late(ranges, span.maturity_us)})"""

    after_us, upto_us = span.windows_after_us, span.upto_us
    recent = rows(after_us, upto_us, at_times(scope, after_us, upto_us))
    reader.keep_as("recent", f"SELECT entity, min(event_us) AS start FROM {recent} GROUP BY entity")
    known = _name(scope)
    until_us = reader.kept_upto.get(known, BEGINNING_US)
    if until_us > after_us or known not in reader.kept_upto:
        reader.keep_as(known, "SELECT NULL::VARCHAR AS entity WHERE false")
        until_us = BEGINNING_US
    more = rows(until_us, after_us, at_times(scope, until_us, after_us))
    reader.keep_more(
        known,
        f"SELECT DISTINCT entity FROM {more} AS m ANTI JOIN {quoted(known)} USING (entity)",
    )
    reader.kept_upto[known] = after_us
    reader.keep_as(
        "windows",
        f"""SELECT entity, CASE WHEN entity IN (SELECT entity FROM {quoted(known)})
            THEN NULL ELSE start END AS start FROM recent""",
    )


def count_after_window(reader: ArchiveReader, span: Span) -> int:
    """How many rows of `band` came after their entity's window."""
    found = reader.table(
        f"""SELECT count(*) AS rows FROM band JOIN windows USING (entity)
        WHERE standing = 'wanted' AND event_us <= {span.upto_us}
            AND coalesce(event_us >= start + {span.window_us}, true)"""
    )
    rows: int = found["rows"][0].as_py()
    return rows


def rows_in_windows(
    reader: ArchiveReader, scope: Scope, span: Span, ranges: tuple[LateRange, ...]
) -> str:
    """SQL of the rows of the entities that this pass includes, with both answers."""
    after_us, upto_us = span.windows_after_us, span.upto_us
    within = f"{scope.event_us} > {after_us} AND {scope.event_us} <= {upto_us}"
    rows = prediction_rows(reader, scope, where=within, keep=at_times(scope, after_us, upto_us))
    reader.keep_as(
        "included",
        f"""SELECT r.* FROM {rows} AS r JOIN windows AS w ON w.entity = r.entity
        WHERE standing = 'wanted' AND NOT {is_late(ranges, span.maturity_us)}
            AND w.start <= {span.windows_upto_us} AND r.event_us < w.start + {span.window_us}""",
    )
    return compared_rows(reader, scope, "included", of_ids("included", reader))


def _name(scope: Scope) -> str:
    """The table of the entities that a registration has seen before, by a name of its own.

    It only grows from one pass to the next. Of the times that it covers no row can follow that
    is not late, and late rows open no window.
    """
    registration = scope.registration
    return f"known {registration.endpoint}/{registration.number} {registration.digest}"
