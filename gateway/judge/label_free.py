# ruff: noqa: S608 - the only names in this SQL are ours
"""What can be said of a challenger without any label: for those who start without them.

Rules: no verdict and no promotion follows from this. Every figure has its n, and where there
is no row the figure is None, never 0. All figures follow from counts that add up, so that a
part of the archive is counted once and never again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from gateway.archive.comparisons import Scope, compared_rows, prediction_rows
from gateway.archive.tables import ArchiveReader, Rows
from gateway.core.arrays import Floats, Ints
from gateway.judge.pairs import codes, predictions
from gateway.ports import Registration


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
    rows = compared_rows(reader, scope, prediction_rows(reader, scope))
    return report_of(label_free_counts(reader, reader, scope, rows))


def label_free_counts(reader: ArchiveReader, source: Rows, scope: Scope, rows: str) -> Counter[str]:
    """What `source` says, in numbers that sum over parts that share no prediction id.

    `rows` are its `compared_rows`. Raises InvalidSetting where the outputs cannot be read as
    the terms say.
    """
    table = reader.table(
        f"""SELECT champion_status, challenger_status, champion_output, challenger_output
        FROM {rows} WHERE standing = 'wanted' AND state <> 'pending'"""
    )
    champion, challenger = (
        _statuses(table[f"{role}_status"]) for role in ("champion", "challenger")
    )
    both = (champion == "ok") & (challenger == "ok")
    agreed = _agreed(table.filter(pa.array(both)), scope.registration)
    counts = Counter({"asked": len(both), "both": int(both.sum()), "agreed": agreed})
    for role, statuses in (("champion", champion), ("challenger", challenger)):
        for kind in _FAILURES:
            counts[f"{role}.{kind}"] = int((statuses == kind).sum())
    for role, column in _timed(reader, source, scope).items():
        for us, n in zip(*np.unique(_rounded(column), return_counts=True), strict=True):
            counts[f"{role}_alone_us.{us}"] = int(n)
    return counts


def report_of(counts: Mapping[str, int]) -> LabelFreeReport:
    """The report that `label_free_counts` add up to."""
    both, asked = counts.get("both", 0), counts.get("asked", 0)

    def failures(role: str) -> Failures:
        found = {kind: counts.get(f"{role}.{kind}", 0) for kind in _FAILURES}
        return Failures(n=asked, **found)

    return LabelFreeReport(
        both_answered=both,
        agreement=counts.get("agreed", 0) / both if both else None,
        champion=failures("champion"),
        challenger=failures("challenger"),
        champion_latency=_latency(counts, "champion_alone_us."),
        challenger_latency=_latency(counts, "challenger_alone_us."),
    )


_FAILURES = Failures.__struct_fields__[1:]
#: Latencies are kept to seven significant bits: within 1.6%, and few enough to be summed.
_KEPT_BITS = 7


def _statuses(column: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    return column.to_numpy().astype(str)  # type: ignore[no-any-return]


def _agreed(table: pa.Table, registration: Registration) -> int:
    if not table.num_rows:
        return 0
    outputs = [table["champion_output"], table["challenger_output"]]
    one, other = _decisions(outputs, registration)
    return int(np.count_nonzero(one == other))


def _decisions(outputs: list[pa.ChunkedArray], registration: Registration) -> list[Floats]:
    reading = registration.terms.prediction
    if pa.types.is_string(outputs[0].type) and not reading.classes:
        return codes(outputs)
    versions = (registration.champion, registration.version)
    return [
        predictions(output, reading, version, reads="class")
        for output, version in zip(outputs, versions, strict=True)
    ]


def _timed(reader: ArchiveReader, source: Rows, scope: Scope) -> dict[str, Ints]:
    """The sampled requests by role, each once however often its frame was written."""
    registration = scope.registration
    first = "(s.started_at, s.source_writer, s.source_end)"
    table = reader.table(
        f"""SELECT min_by(s.champion_alone_us, {first}) AS champion,
            min_by(s.challenger_alone_us, {first}) AS challenger
        FROM {source.scan("shadows", registration.endpoint)} AS s
        SEMI JOIN {source.scan("predictions", registration.endpoint)} AS p
            ON p.prediction_id = s.prediction_id
        WHERE s.registration = {registration.number} AND s.row = 0
            AND s.champion_alone_us IS NOT NULL
        GROUP BY s.prediction_id"""
    )
    return {role: table[role].to_numpy().astype(np.int64) for role in ("champion", "challenger")}


def _rounded(us: Ints) -> Ints:
    """The same numbers with all but their first bits zero."""
    bits = np.frexp(us.astype(np.float64))[1].astype(np.int64)
    dropped = np.maximum(bits - _KEPT_BITS, 0)
    rounded: Ints = (us >> dropped) << dropped
    return rounded


def _latency(counts: Mapping[str, int], prefix: str) -> Latency | None:
    found = sorted(
        (int(name.removeprefix(prefix)), n)
        for name, n in counts.items()
        if name.startswith(prefix) and n
    )
    if not found:
        return None
    us, times = (np.array(column) for column in zip(*found, strict=True))
    return Latency(
        n=int(times.sum()), p50_us=_percentile(us, times, 0.5), p99_us=_percentile(us, times, 0.99)
    )


def _percentile(us: Ints, times: Ints, share: float) -> float:
    """Between the two nearest of the sorted values, in proportion."""
    place = share * (int(times.sum()) - 1)
    ends = np.cumsum(times)
    below, above = us[np.searchsorted(ends, [np.floor(place), np.ceil(place)], side="right")]
    return float(below + (above - below) * (place - np.floor(place)))
