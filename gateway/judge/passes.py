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

from collections.abc import Iterable, Mapping

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]

from gateway.archive.comparisons import Scope, compared_rows, prediction_rows
from gateway.archive.final_labels import distinct_labels, final_labels
from gateway.archive.manifest import ArchiveFile
from gateway.archive.schema import literal
from gateway.archive.tables import ArchiveReader, Keep, overlaps
from gateway.judge.evidence_state import LateRange

_BEGINNING_US = -(2**62)
_US_PER_S = 1_000_000


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """The times of one pass, in microseconds of the endpoint's clock.

    Rows with `after_us` < t ≤ `upto_us` have their turn; `before_us` is the cut of the pass
    before, None in the first.
    """

    before_us: int | None
    cut_us: int
    maturity_us: int
    window_us: int

    @property
    def after_us(self) -> int:
        """Rows up to here had their turn before."""
        return _BEGINNING_US if self.before_us is None else self.before_us - self.maturity_us

    @property
    def upto_us(self) -> int:
        """Rows after this have their turn later."""
        return self.cut_us - self.maturity_us

    @property
    def windows_after_us(self) -> int:
        """Windows that opened up to here were included before."""
        return _BEGINNING_US if self.before_us is None else self.after_us - self.window_us

    @property
    def windows_upto_us(self) -> int:
        """Windows that opened after this are included later."""
        return self.upto_us - self.window_us


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


def span_of(scope: Scope, *, before_us: int | None, cut_us: int) -> Span:
    """The times of a pass up to `cut_us`; a cut never goes back."""
    terms = scope.registration.terms
    return Span(
        before_us=before_us,
        cut_us=cut_us if before_us is None else max(cut_us, before_us),
        maturity_us=terms.maturity_s * _US_PER_S,
        window_us=terms.entity.window_s * _US_PER_S,
    )


def take_turn(
    reader: ArchiveReader,
    scope: Scope,
    span: Span,
    *,
    covered_before: Mapping[str, int],
    known_late: tuple[LateRange, ...],
) -> Turn:
    """What the pass over `span` includes. `scope.covered` is what this pass has read."""
    news = _new_ranges(scope, span, covered_before)
    late = _find_late(reader, scope, span, news)
    _keep_band(reader, scope, span)
    pending, first_pending_us = _pending(reader)
    if first_pending_us is not None:
        span = msgspec.structs.replace(span, cut_us=first_pending_us + span.maturity_us - 1)
    ranges = (*known_late, *late.ranges)
    after_window = 0
    if scope.registration.terms.entity.source == "row":
        included = f"(SELECT * FROM band WHERE {_is_judged(span)})"
    else:
        _keep_windows(reader, scope, span, ranges)
        after_window = _count(reader, _after_window(span))
        included = _rows_in_windows(reader, scope, span, ranges)
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


# -- late rows -----------------------------------------------------------------------------


class _Late(msgspec.Struct, frozen=True):
    ranges: tuple[LateRange, ...]
    rows: int
    without_time: int


def _new_ranges(
    scope: Scope, span: Span, covered_before: Mapping[str, int]
) -> tuple[LateRange, ...]:
    """What this pass reads that the pass before had not."""
    cut_us = _BEGINNING_US if span.before_us is None else span.before_us
    return tuple(
        LateRange(writer, covered_before.get(writer, 0), upto, cut_us)
        for writer, upto in sorted((scope.covered or {}).items())
        if upto > covered_before.get(writer, 0)
    )


def _find_late(
    reader: ArchiveReader, scope: Scope, span: Span, news: tuple[LateRange, ...]
) -> _Late:
    """The rows among `news` whose turn was over, by range, and those that have no time."""
    found = {range_.writer: range_ for range_ in news}

    def is_new(file: ArchiveFile) -> bool:
        return any(
            writer in found and last > found[writer].after
            for writer, (_, last) in file.sources.items()
        )

    if not reader.files("predictions", scope.registration.endpoint, is_new):
        return _Late((), 0, 0)
    is_news = _or(
        f"(p.source_writer = {literal(one.writer)} AND p.source_end > {one.after})" for one in news
    )
    is_over = f"({scope.event_us} IS NULL OR {scope.event_us} <= {span.after_us})"
    rows = prediction_rows(reader, scope, where=f"{is_news} AND {is_over}", keep=is_new)
    counts = reader.table(
        f"""SELECT source_writer, count(*) FILTER (event_us IS NOT NULL) AS late,
            count(*) FILTER (event_us IS NULL) AS without_time
        FROM {rows} WHERE standing = 'wanted' GROUP BY source_writer"""
    ).to_pylist()
    return _Late(
        tuple(found[count["source_writer"]] for count in counts if count["late"]),
        sum(count["late"] for count in counts),
        sum(count["without_time"] for count in counts),
    )


def _is_late(ranges: Iterable[LateRange], maturity_us: int) -> str:
    return _or(
        f"(source_writer = {literal(one.writer)} AND source_end > {one.after} "
        f"AND source_end <= {one.upto} AND event_us <= {one.cut_us - maturity_us})"
        for one in ranges
    )


def _or(conditions: Iterable[str]) -> str:
    return f"({' OR '.join(conditions) or 'false'})"


# -- the rows whose turn it is ---------------------------------------------------------------


def _keep_band(reader: ArchiveReader, scope: Scope, span: Span) -> None:
    """Hold the rows whose turn it is, with both answers, as `band`."""
    within = f"{scope.event_us} > {span.after_us} AND {scope.event_us} <= {span.upto_us}"
    files = _at(scope, span.after_us, span.upto_us)
    reader.keep_as(
        "asked", f"SELECT * FROM {prediction_rows(reader, scope, where=within, keep=files)}"
    )
    reader.keep_as(
        "band", f"SELECT * FROM {compared_rows(reader, scope, 'asked', _of('asked', reader))}"
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


def _is_judged(span: Span) -> str:
    return f"event_us <= {span.upto_us} AND standing = 'wanted'"


# -- entities and their windows ----------------------------------------------------------------


def _keep_windows(
    reader: ArchiveReader, scope: Scope, span: Span, ranges: tuple[LateRange, ...]
) -> None:
    """Hold the entities seen lately as `windows`; `start` is NULL where it was used before."""

    def rows(after_us: int, upto_us: int, keep: Keep) -> str:
        within = f"{scope.event_us} > {after_us} AND {scope.event_us} <= {upto_us}"
        found = prediction_rows(reader, scope, where=within, keep=keep)
        return f"""(SELECT entity, event_us FROM {found} WHERE standing = 'wanted'
            AND entity IS NOT NULL AND NOT {_is_late(ranges, span.maturity_us)})"""

    after_us, upto_us = span.windows_after_us, span.upto_us
    recent = rows(after_us, upto_us, _at(scope, after_us, upto_us))
    reader.keep_as("recent", f"SELECT entity, min(event_us) AS start FROM {recent} GROUP BY entity")
    earlier, same = _at(scope, _BEGINNING_US, after_us), _same_entities(reader)
    before = rows(_BEGINNING_US, after_us, lambda file: earlier(file) and same(file))
    reader.keep_as(
        "windows",
        f"""SELECT entity, CASE WHEN entity IN (
                SELECT entity FROM {before} SEMI JOIN recent USING (entity)
            ) THEN NULL ELSE start END AS start FROM recent""",
    )


def _after_window(span: Span) -> str:
    return f"""SELECT count(*) FROM band JOIN windows USING (entity)
        WHERE {_is_judged(span)} AND coalesce(event_us >= start + {span.window_us}, true)"""


def _rows_in_windows(
    reader: ArchiveReader, scope: Scope, span: Span, ranges: tuple[LateRange, ...]
) -> str:
    """SQL of the rows of the entities that this pass includes, with both answers."""
    after_us, upto_us = span.windows_after_us, span.upto_us
    within = f"{scope.event_us} > {after_us} AND {scope.event_us} <= {upto_us}"
    rows = prediction_rows(reader, scope, where=within, keep=_at(scope, after_us, upto_us))
    reader.keep_as(
        "included",
        f"""SELECT r.* FROM {rows} AS r JOIN windows AS w ON w.entity = r.entity
        WHERE standing = 'wanted' AND NOT {_is_late(ranges, span.maturity_us)}
            AND w.start <= {span.windows_upto_us} AND r.event_us < w.start + {span.window_us}""",
    )
    return compared_rows(reader, scope, "included", _of("included", reader))


# -- labels --------------------------------------------------------------------------------


def _with_labels(reader: ArchiveReader, scope: Scope, span: Span, included: str) -> pa.Table:
    terms = scope.registration.terms
    reader.keep_as("pairs", f"SELECT * FROM {included}")
    labels = distinct_labels(
        f"(SELECT l.* FROM {reader.scan('labels', '', _of('pairs', reader))} AS l "
        f"{scope.readable('l')})"
    )
    final = final_labels(labels, "pairs", maturity_us=span.maturity_us, event_time=terms.event_time)
    return reader.table(
        f"""SELECT pairs.*, f.label, f.label_text FROM pairs LEFT JOIN {final} AS f
            ON f.prediction_id = pairs.prediction_id AND f.row = pairs.row"""
    )


# -- which files --------------------------------------------------------------------------


def _at(scope: Scope, after_us: int, upto_us: int) -> Keep:
    """Keep files that may hold a row with `after_us` < t ≤ `upto_us`."""
    by_client = scope.registration.terms.event_time == "client"

    def keep(file: ArchiveFile) -> bool:
        times = file.occurred_at_us if by_client else file.accepted_at_us
        return times is not None and times[0] <= upto_us and times[1] > after_us

    return keep


def _same_entities(reader: ArchiveReader) -> Keep:
    """Keep files that may hold an entity seen lately."""
    (found,) = reader.table(
        "SELECT min(entity) AS least, max(entity) AS greatest FROM recent"
    ).to_pylist()

    def keep(file: ArchiveFile) -> bool:
        return (
            file.entities is not None
            and found["least"] is not None
            and file.entities[0] <= found["greatest"]
            and file.entities[1] >= found["least"]
        )

    return keep


def _of(table: str, reader: ArchiveReader) -> Keep:
    """Keep files that may hold a row of a table that is held."""
    (ids,) = reader.table(
        f"SELECT min(prediction_id) AS least, max(prediction_id) AS greatest FROM {table}"
    ).to_pylist()
    if ids["least"] is None:
        return lambda _file: False
    return overlaps((ids["least"], ids["greatest"]))


def _count(reader: ArchiveReader, query: str) -> int:
    number: int = reader.table(query).column(0)[0].as_py()
    return number
