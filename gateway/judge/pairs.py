"""From archived pairs to evidence: answers and labels become advantages.

Rules: what is not known counts as the worst that it could be. A request that a version could
not read (`refused`), or that the journal let go before the version saw it (`expired`), is no
failure of that version and no win of the other: its loss is somewhere from 0 to 1, so such a
row can only hold a promotion back, and never makes a harm. The rules for failures and missing
labels are those of core/observations.py.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from gateway.core import metrics
from gateway.core.arrays import Bools, Floats, Ints
from gateway.core.class_order import positions_of_numbers, positions_of_texts
from gateway.core.evidence import Evidence
from gateway.core.observations import Observations, Pairs, gather, observe
from gateway.core.predictions import Reads, read
from gateway.core.registration import Terms
from gateway.core.routes import ClassName, PredictionReading
from gateway.ports import Registration

_UNKNOWN = ("refused", "expired")


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """The evidence of some rows, and what was unknown of them."""

    evidence: Evidence
    refused: int
    unreadable_labels: int


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of both losses over the `n` rows with a label on which the champion answered."""

    n: int
    champion: float
    challenger: float


def judge_pairs(table: pa.Table, registration: Registration) -> Judged:
    """The evidence of rows that a pass includes, whole entities only.

    `table` has state, entity, champion_status, challenger_status, champion_output,
    challenger_output (list of numbers, or text), label and label_text. Raises InvalidSetting
    where an output cannot be read as the terms say.
    """
    terms = registration.terms
    champion, challenger, label, unreadable = _numbers(table, registration)
    status = {role: table[f"{role}_status"] for role in ("champion", "challenger")}
    unknown = {role: _is_in(column, *_UNKNOWN) for role, column in status.items()}
    failed = {role: ~_is_in(column, "ok", *_UNKNOWN) for role, column in status.items()}
    pairs = Pairs(
        champion_prediction=champion,
        challenger_prediction=challenger,
        champion_failed=failed["champion"],
        challenger_failed=failed["challenger"] | unknown["challenger"],
        label=label,
    )
    metric = metrics.by_name(terms.metric)
    observations = observe(pairs, metric, missing_labels=terms.missing_labels)
    champion_answered = ~failed["champion"] & np.isfinite(champion)
    _widen_unknown(observations, unknown["champion"], unknown["challenger"] & champion_answered)
    counted = _counted(observations, table, unknown["champion"], unknown["challenger"])
    return Judged(
        evidence=gather(counted, _entity_codes(table, terms)),
        refused=_number(_is_in(table["state"], "refused")),
        unreadable_labels=unreadable,
    )


def losses_of(table: pa.Table, registration: Registration) -> Losses:
    """Both losses as they are, without any bound; `table` as for `judge_pairs`.

    A challenger that failed loses 1. A row of which a label or an answer is unknown is left out.
    """
    champion, challenger, label, _ = _numbers(table, registration)
    unknown = _is_in(table["champion_status"], *_UNKNOWN)
    unknown |= _is_in(table["challenger_status"], *_UNKNOWN)
    answered = _is_in(table["champion_status"], "ok") & np.isfinite(champion)
    kept = answered & ~unknown & ~np.isnan(label)
    failed = ~(_is_in(table["challenger_status"], "ok") & np.isfinite(challenger))
    metric = metrics.by_name(registration.terms.metric)
    lost = metric.loss(np.where(failed, 0.0, challenger), label)
    return Losses(
        n=_number(kept),
        champion=float(metric.loss(champion, label)[kept].sum()),
        challenger=float(np.where(failed, 1.0, lost)[kept].sum()),
    )


def _widen_unknown(
    observations: Observations, champion_unknown: Bools, challenger_unknown: Bools
) -> None:
    """Let an unknown loss range from 0 to 1, on either side.

    An unknown challenger was observed as failed, with a loss of 1; at best that is 0.
    """
    observations.greatest[challenger_unknown] += 1.0
    observations.least[champion_unknown] = -1.0
    observations.greatest[champion_unknown] = 1.0


def _counted(
    observations: Observations,
    table: pa.Table,
    champion_unknown: Bools,
    challenger_unknown: Bools,
) -> Observations:
    """The observations with counts in which an unknown answer is no failure."""
    counts = observations.counts
    counts = msgspec.structs.replace(
        counts,
        champion_failures=counts.champion_failures - _number(champion_unknown),
        challenger_failures=counts.challenger_failures - _number(challenger_unknown),
        expired=_number(_is_in(table["state"], "expired")),
    )
    return msgspec.structs.replace(observations, counts=counts)


def _numbers(table: pa.Table, registration: Registration) -> tuple[Floats, Floats, Floats, int]:
    """Both predictions and the label as numbers, NaN where there is none; unreadable labels."""
    reads = metrics.by_name(registration.terms.metric).reads
    classes = registration.terms.prediction.classes
    outputs = [table[f"{role}_output"] for role in ("champion", "challenger")]
    if pa.types.is_string(outputs[0].type) and not classes:
        champion, challenger, label = codes([*outputs, table["label_text"]])
        return champion, challenger, label, _number(_is_there(table["label"]))
    versions = (registration.champion, registration.version)
    champion, challenger = (
        predictions(output, registration.terms.prediction, version, reads=reads)
        for output, version in zip(outputs, versions, strict=True)
    )
    label, unreadable = _labels(table, classes)
    if reads == "value":
        scale = registration.terms.scale
        champion, challenger, label = champion / scale, challenger / scale, label / scale
    return champion, challenger, label, unreadable


def _labels(table: pa.Table, classes: tuple[ClassName, ...]) -> tuple[Floats, int]:
    """The label as a number, or as the position of its class; how many cannot be read."""
    label = table["label"].to_numpy().astype(np.float64)
    label[~np.isfinite(label)] = np.nan
    is_text = _is_there(table["label_text"])
    if not classes:
        return label, _number(is_text)
    given = ~np.isnan(label) | is_text
    named = positions_of_texts(table["label_text"].to_pylist(), classes)
    found = np.where(is_text, named, positions_of_numbers(label, classes))
    return found, _number(given & np.isnan(found))


def predictions(
    outputs: pa.ChunkedArray, reading: PredictionReading, version: str, *, reads: Reads
) -> Floats:
    """What a metric that `reads` gets to see of `version`, float64[n]; NaN where there is none.

    `outputs` are lists of numbers, or texts that name classes.
    """
    if pa.types.is_string(outputs.type):
        return positions_of_texts(outputs.to_pylist(), reading.classes)
    how, threshold = reading.reading_of(version), reading.threshold_of(version)
    found = by_width(outputs, lambda rows: read(rows, how, reads, threshold=threshold))
    if how == "class" and reading.classes:
        return positions_of_numbers(found, reading.classes)
    return found


def by_width(lists: pa.ChunkedArray, read_rows: Callable[[Floats], Floats]) -> Floats:
    """`read_rows` of lists of numbers, float64[n]; NaN where there is no list or an empty one.

    Each row is read by its own width, so that it reads the same whatever rows are with it.
    """
    widths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    found = np.full(len(widths), np.nan)
    for width in np.unique(widths[widths > 0]):
        rows = widths == width
        numbers = lists.filter(pa.array(rows)).combine_chunks().flatten()
        found[rows] = read_rows(numbers.to_numpy(zero_copy_only=False).reshape(-1, width))
    return found


def codes(columns: list[pa.ChunkedArray]) -> list[Floats]:
    """Texts as numbers that are equal where the texts are; NaN where there is none."""
    chunks = [chunk for column in columns for chunk in column.chunks]
    indices = (
        pa.chunked_array(chunks, type=pa.string()).combine_chunks().dictionary_encode().indices
    )
    numbers = indices.cast(pa.float64()).to_numpy(zero_copy_only=False)
    ends = np.cumsum([len(column) for column in columns])
    return [part.copy() for part in np.split(numbers, ends[:-1])]


def _entity_codes(table: pa.Table, terms: Terms) -> Ints | None:
    if terms.entity.source == "row":
        return None
    codes: Ints = (
        table["entity"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    )
    return codes


def _is_in(column: pa.ChunkedArray, *values: str) -> Bools:
    found: Bools = pc.is_in(column, value_set=pa.array(values)).to_numpy()
    return found


def _is_there(column: pa.ChunkedArray) -> Bools:
    found: Bools = pc.is_valid(column).to_numpy()
    return found


def _number(rows: Bools) -> int:
    return int(np.count_nonzero(rows))
