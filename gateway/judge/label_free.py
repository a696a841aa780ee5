# ruff: noqa: S608 - the only names in this SQL are ours
"""What can be said of a challenger without any label: for those who start without them.

Rules: no verdict and no promotion follows from this. Every figure has its n, and where there
is no row the figure is None, never 0. A latency says how it was taken: an answer to a client
and a batch in shadow are not the same measurement.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from gateway.archive.comparisons import Scope, compared_rows, prediction_rows
from gateway.archive.tables import ArchiveReader
from gateway.core.arrays import Bools, Floats
from gateway.core.predictions import decide
from gateway.core.registration import Terms
from gateway.judge.pairs import by_width, codes

#: live: the whole request of one client. shadow: the whole batch that the row ran in.
Measured = Literal["live", "shadow"]


class Failures(msgspec.Struct, frozen=True, kw_only=True):
    """How often a version gave no prediction, in rows; `n` rows were put to it."""

    n: int
    failed: int = 0
    timed_out: int = 0
    nonfinite: int = 0
    refused: int = 0


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Median and 99th percentile over the same `n` rows for both versions, in µs."""

    measured: Measured
    n: int
    p50_us: float
    p99_us: float


class LabelFreeReport(msgspec.Struct, frozen=True, kw_only=True):
    """Agreement, failures and latency of one registration.

    `agreement` is the share of the `both_answered` rows on which the two decide alike; None
    where there are none. `latencies` holds, for each way that the pair was measured, the
    champion's and the challenger's.
    """

    both_answered: int
    agreement: float | None
    champion: Failures
    challenger: Failures
    latencies: list[tuple[Latency, Latency]]


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
    return LabelFreeReport(
        both_answered=int(both.sum()),
        agreement=_agreement(table.filter(pa.array(both)), terms),
        champion=_failures(champion),
        challenger=_failures(challenger),
        latencies=_latencies(table, both, terms),
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


def _latencies(table: pa.Table, both: Bools, terms: Terms) -> list[tuple[Latency, Latency]]:
    """Pairs by who answered the client, where both answered."""
    served = table["served_digest"].to_numpy().astype(str)
    is_champion, is_challenger = served == terms.champion_digest, served == terms.challenger_digest
    ways: tuple[tuple[Bools, Measured, Measured], ...] = (
        (both & is_champion, "live", "shadow"),
        (both & is_challenger, "shadow", "live"),
        (both & ~is_champion & ~is_challenger, "shadow", "shadow"),
    )
    return [
        (
            _latency(table["champion_latency_us"], rows, champion),
            _latency(table["challenger_latency_us"], rows, challenger),
        )
        for rows, champion, challenger in ways
        if rows.any()
    ]


def _latency(column: pa.ChunkedArray, rows: Bools, measured: Measured) -> Latency:
    p50_us, p99_us = np.percentile(column.to_numpy()[rows].astype(np.float64), [50, 99])
    return Latency(measured=measured, n=int(rows.sum()), p50_us=float(p50_us), p99_us=float(p99_us))
