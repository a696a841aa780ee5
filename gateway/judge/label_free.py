# ruff: noqa: S608 - the only names in this SQL are ours
"""What can be said of a challenger without any label: for those who start without them.

Rules: no verdict and no promotion follows from this. Every figure has its n, and where there
is no row the figure is None, never 0.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from gateway.archive.comparisons import Scope, compared_rows, prediction_rows
from gateway.archive.tables import ArchiveReader
from gateway.core.arrays import Floats
from gateway.core.predictions import decide
from gateway.core.registration import Terms
from gateway.judge.pairs import by_width, codes


class Failures(msgspec.Struct, frozen=True, kw_only=True):
    """How often a version gave no prediction, in rows; `n` rows were put to it."""

    n: int
    failed: int = 0
    timed_out: int = 0
    nonfinite: int = 0
    refused: int = 0


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Median and 99th percentile over `n` requests that both versions ran alone, in µs."""

    n: int
    p50_us: float
    p99_us: float


class LabelFreeReport(msgspec.Struct, frozen=True, kw_only=True):
    """Agreement, failures and latency of one registration.

    `agreement` is the share of the `both_answered` rows on which the two decide alike; None
    where there are none. The latencies are of the same sampled requests, run by both versions
    alone and in random order; None where none was sampled yet.
    """

    both_answered: int
    agreement: float | None
    champion: Failures
    challenger: Failures
    champion_latency: Latency | None
    challenger_latency: Latency | None


def label_free_report(reader: ArchiveReader, scope: Scope) -> LabelFreeReport:
    """The report over all that `scope` covers.

    Raises InvalidSetting where the outputs cannot be read as the terms say.
    """
    terms = scope.registration.terms
    rows = compared_rows(reader, scope, prediction_rows(reader, scope))
    table = reader.table(f"SELECT * FROM {rows} WHERE standing = 'wanted' AND state <> 'pending'")
    champion, challenger = (
        _statuses(table[f"{role}_status"]) for role in ("champion", "challenger")
    )
    both = (champion == "ok") & (challenger == "ok")
    timed = _timed(reader, scope)
    return LabelFreeReport(
        both_answered=int(both.sum()),
        agreement=_agreement(table.filter(pa.array(both)), terms),
        champion=_failures(champion),
        challenger=_failures(challenger),
        champion_latency=_latency(timed["champion_alone_us"]),
        challenger_latency=_latency(timed["challenger_alone_us"]),
    )


def _statuses(column: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    return column.to_numpy().astype(str)  # type: ignore[no-any-return]


def _failures(statuses: np.ndarray[tuple[int], np.dtype[np.str_]]) -> Failures:
    counted = {kind: int((statuses == kind).sum()) for kind in Failures.__struct_fields__[1:]}
    return Failures(n=len(statuses), **counted)


def _agreement(table: pa.Table, terms: Terms) -> float | None:
    if not table.num_rows:
        return None
    one, other = _decisions([table["champion_output"], table["challenger_output"]], terms)
    return float(np.mean(one == other))


def _decisions(outputs: list[pa.ChunkedArray], terms: Terms) -> list[Floats]:
    if pa.types.is_string(outputs[0].type):
        return codes(outputs)
    reading, threshold = terms.prediction.reading, terms.prediction.threshold
    return [
        by_width(output, lambda rows: decide(rows, reading, threshold=threshold))
        for output in outputs
    ]


def _timed(reader: ArchiveReader, scope: Scope) -> pa.Table:
    """The sampled requests, each once however often its frame was written."""
    registration = scope.registration
    shadows = reader.scan("shadows", registration.endpoint)
    return reader.table(
        f"""SELECT any_value(champion_alone_us) AS champion_alone_us,
            any_value(challenger_alone_us) AS challenger_alone_us
        FROM {shadows} WHERE registration = {registration.number} AND row = 0
            AND champion_alone_us IS NOT NULL
        GROUP BY prediction_id"""
    )


def _latency(column: pa.ChunkedArray) -> Latency | None:
    if not len(column):
        return None
    p50_us, p99_us = np.percentile(column.to_numpy().astype(np.float64), [50, 99])
    return Latency(n=len(column), p50_us=float(p50_us), p99_us=float(p99_us))
