# ruff: noqa: S608 - every name and text in this SQL goes through `literal`
"""Late rows: read when a pass had gone past their turn. They stay late for ever (passes.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from gateway.archive.comparisons import Scope, prediction_rows
from gateway.archive.manifest import ArchiveFile
from gateway.archive.schema import literal
from gateway.archive.tables import ArchiveReader
from gateway.judge.evidence_state import LateRange
from gateway.judge.spans import BEGINNING_US, Span


class Late(msgspec.Struct, frozen=True):
    """The late rows that one pass found, the ranges that hold them, and rows with no time."""

    ranges: tuple[LateRange, ...]
    rows: int
    without_time: int


def new_ranges(
    scope: Scope, span: Span, covered_before: Mapping[str, int]
) -> tuple[LateRange, ...]:
    """What this pass reads that the pass before had not."""
    cut_us = BEGINNING_US if span.before_us is None else span.before_us
    return tuple(
        LateRange(writer, covered_before.get(writer, 0), upto, cut_us)
        for writer, upto in sorted((scope.covered or {}).items())
        if upto > covered_before.get(writer, 0)
    )


def find_late(reader: ArchiveReader, scope: Scope, span: Span, news: tuple[LateRange, ...]) -> Late:
    """The rows among `news` whose turn was over, by range, and those that have no time."""
    found = {range_.writer: range_ for range_ in news}

    def is_new(file: ArchiveFile) -> bool:
        return any(
            writer in found and last > found[writer].after
            for writer, (_, last) in file.sources.items()
        )

    if not reader.files("predictions", scope.registration.endpoint, is_new):
        return Late((), 0, 0)
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
    return Late(
        tuple(found[count["source_writer"]] for count in counts if count["late"]),
        sum(count["late"] for count in counts),
        sum(count["without_time"] for count in counts),
    )


def is_late(ranges: Iterable[LateRange], maturity_us: int) -> str:
    """SQL of whether a row is among these."""
    return _or(
        f"(source_writer = {literal(one.writer)} AND source_end > {one.after} "
        f"AND source_end <= {one.upto} AND event_us <= {one.cut_us - maturity_us})"
        for one in ranges
    )


def _or(conditions: Iterable[str]) -> str:
    return f"({' OR '.join(conditions) or 'false'})"
