# ruff: noqa: S608 - every name and text in this SQL goes through `quoted`, `literal` or `values`
"""Which rows a pass of the judge includes. A question of times, never of answers or labels.

A pass has a cut: the time on the endpoint's clock up to which horizons have passed. With M
the maturity, W the entity's window and t a row's time:

- a row's turn comes in the first pass whose cut is at or past t + M;
- a row that had not been read then (its frame lies beyond that pass's `covered`) is late. It
  is in no observation and opens no window, whenever it is read;
- where each row is its own entity, it is included when its turn comes;
- else the entity's window opens at its first row that is not late, and it is included, with
  the rows from start to start + W, in the first pass whose cut is at or past start + W + M.
  Rows after the window are in no observation, and the entity never counts again.

So whether and when a row counts is a function of the row and of the (cut, covered) of each
pass alone. Rows that come later cannot move a window that was used: with a time before
start + W they are late in that pass. Hence what the passes include adds up to what one pass
over everything would include by the same rules, in any order of arrival; `late` ranges are
all that must be remembered, for rows found late must stay so when windows are looked for.

A pass stops before the first row of which an answer is still owed, so lag delays and never
drops: its cut is then the last one at which that row's turn has not come.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]

from gateway.archive.comparisons import Scope, compared_rows, prediction_rows
from gateway.archive.final_labels import distinct_labels, final_labels
from gateway.archive.tables import ArchiveReader
from gateway.judge.evidence_state import LateRange
from gateway.judge.lateness import find_late, new_ranges
from gateway.judge.spans import Span, at_times, of_ids
from gateway.judge.windows import count_after_window, keep_windows, rows_in_windows


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass found. `pairs` are the rows to judge, with their final labels."""

    span: Span
    pairs: pa.Table
    late: tuple[LateRange, ...]
    late_rows: int
    without_time: int
    ineligible: int
    unsampled: int
    without_entity: int
    after_window: int
    pending: int


def take_turn(
    reader: ArchiveReader,
    scope: Scope,
    span: Span,
    *,
    covered_before: Mapping[str, int],
    known_late: tuple[LateRange, ...],
) -> Turn:
    """What the pass over `span` includes. `scope.covered` is what this pass has read."""
    news = new_ranges(scope, span, covered_before)
    late = find_late(reader, scope, span, news)
    _keep_band(reader, scope, span)
    pending, first_pending_us = _pending(reader)
    if first_pending_us is not None:
        span = msgspec.structs.replace(span, cut_us=first_pending_us + span.maturity_us - 1)
    ranges = (*known_late, *late.ranges)
    after_window = 0
    if scope.registration.terms.entity.source == "row":
        included = f"(SELECT * FROM band WHERE event_us <= {span.upto_us} AND standing = 'wanted')"
    else:
        keep_windows(reader, scope, span, ranges)
        after_window = count_after_window(reader, span)
        included = rows_in_windows(reader, scope, span, ranges)
    band = _band_counts(reader, scope, span)
    return Turn(
        span=span,
        pairs=_with_labels(reader, scope, span, included),
        late=ranges,
        late_rows=late.rows,
        without_time=late.without_time,
        after_window=after_window,
        pending=pending,
        **band,
    )


def _keep_band(reader: ArchiveReader, scope: Scope, span: Span) -> None:
    """Hold the rows whose turn it is, with both answers, as `band`."""
    within = f"{scope.event_us} > {span.after_us} AND {scope.event_us} <= {span.upto_us}"
    files = at_times(scope, span.after_us, span.upto_us)
    reader.keep_as(
        "asked", f"SELECT * FROM {prediction_rows(reader, scope, where=within, keep=files)}"
    )
    reader.keep_as(
        "band", f"SELECT * FROM {compared_rows(reader, scope, 'asked', of_ids('asked', reader))}"
    )


def _pending(reader: ArchiveReader) -> tuple[int, int | None]:
    (found,) = reader.table(
        "SELECT count(*) AS rows, min(event_us) AS first FROM band WHERE state = 'pending'"
    ).to_pylist()
    return found["rows"], found["first"]


def _band_counts(reader: ArchiveReader, scope: Scope, span: Span) -> dict[str, int]:
    needs_entity = scope.registration.terms.entity.source == "parameter"
    counts: list[dict[str, int]] = reader.table(
        f"""SELECT count(*) FILTER (standing = 'ineligible') AS ineligible,
            count(*) FILTER (standing = 'unsampled') AS unsampled,
            count(*) FILTER ({str(needs_entity).lower()} AND standing = 'wanted'
                AND entity IS NULL) AS without_entity
        FROM band WHERE event_us <= {span.upto_us}"""
    ).to_pylist()
    return counts[0]


def _with_labels(reader: ArchiveReader, scope: Scope, span: Span, included: str) -> pa.Table:
    terms = scope.registration.terms
    reader.keep_as("pairs", f"SELECT * FROM {included}")
    labels = distinct_labels(
        f"(SELECT l.* FROM {reader.scan('labels', '', of_ids('pairs', reader))} AS l "
        f"{scope.readable('l')})"
    )
    final = final_labels(labels, "pairs", maturity_us=span.maturity_us, event_time=terms.event_time)
    return reader.table(
        f"""SELECT pairs.*, f.label, f.label_text FROM pairs LEFT JOIN {final} AS f
            ON f.prediction_id = pairs.prediction_id AND f.row = pairs.row"""
    )
