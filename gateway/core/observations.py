"""From a row's two predictions and its label to one advantage d, or the range it lies in.

    d = loss(champion) − loss(challenger), in [−1, 1]: above 0 the challenger was better

Rules, in this order:
1. The champion failed → d = 0, whatever else happened. Its failures never help a challenger.
2. The challenger failed → its loss is 1.
3. No label → the least and the greatest d that the two predictions allow. The least is
   judged for benefit, the greatest for harm and futility. `missing_at_random` leaves every
   unlabelled row out instead; agreeing ones too, for what remains must be the labelled rows.
Whether a row is here at all follows time, never the content of its label.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from gateway.core.arrays import Bools, Floats, Ints
from gateway.core.evidence import Counts, Evidence, Histogram, entity_means, quantise
from gateway.core.metrics.metric import Metric

MissingLabels = Literal["worst_case", "missing_at_random"]


class Pairs(msgspec.Struct, frozen=True, kw_only=True):
    """n rows that both versions were asked about. A failed row's prediction is not read.

    `label` is NaN where no label came within the horizon. A prediction that is not finite
    is a failure, flagged or not.
    """

    champion_prediction: Floats
    challenger_prediction: Floats
    champion_failed: Bools
    challenger_failed: Bools
    label: Floats


class Observations(msgspec.Struct, frozen=True, kw_only=True):
    """n rows with their range of d; `included` says which of them are judged."""

    least: Floats
    greatest: Floats
    included: Bools
    counts: Counts


def observe(pairs: Pairs, metric: Metric, *, missing_labels: MissingLabels) -> Observations:
    """The range of d of every row, by the rules above."""
    champion_failed, champion = _answers(pairs.champion_failed, pairs.champion_prediction)
    challenger_failed, challenger = _answers(pairs.challenger_failed, pairs.challenger_prediction)
    unlabelled = np.isnan(pairs.label)
    least, greatest = _both_answered(champion, challenger, pairs.label, metric)
    without = _challenger_failed(champion, pairs.label, metric)
    for bound, failed in zip((least, greatest), without, strict=True):
        np.copyto(bound, failed, where=challenger_failed)
        bound[champion_failed] = 0.0
    included = ~unlabelled if missing_labels == "missing_at_random" else np.ones_like(unlabelled)
    differ = champion != challenger
    counts = Counts(
        rows=len(unlabelled),
        labelled=_number(~unlabelled),
        unlabelled=_number(unlabelled),
        left_out=_number(~included),
        disagreements=_number(differ & ~champion_failed & ~challenger_failed),
        champion_failures=_number(champion_failed),
        challenger_failures=_number(challenger_failed),
    )
    return Observations(least=least, greatest=greatest, included=included, counts=counts)


def gather(observations: Observations, entity_codes: Ints | None = None) -> Evidence:
    """Evidence of whole entities, int64[n] codes; without codes each row is its own entity.

    Every row of an entity must be in the same call.
    """
    kept = observations.included
    least = quantise(observations.least[kept])
    most_harmful = quantise(-observations.greatest[kept])
    if entity_codes is not None:
        codes = entity_codes[kept]
        least, most_harmful = entity_means(codes, least), entity_means(codes, most_harmful)
    return Evidence(
        benefit=Histogram.of(least),
        harm=Histogram.of(most_harmful),
        counts=msgspec.structs.replace(observations.counts, entities=len(least)),
    )


def _answers(failed: Bools, prediction: Floats) -> tuple[Bools, Floats]:
    """Which rows failed, and the predictions with a 0 in their place that nothing reads."""
    failed = failed | ~np.isfinite(prediction)
    return failed, np.where(failed, 0.0, prediction)


def _both_answered(
    champion: Floats, challenger: Floats, label: Floats, metric: Metric
) -> tuple[Floats, Floats]:
    """The range of loss(champion) − loss(challenger); a point where there is a label."""
    known = metric.loss(champion, label) - metric.loss(challenger, label)
    least, greatest = metric.bounds(champion, challenger)
    return _where_unlabelled(label, least, known), _where_unlabelled(label, greatest, known)


def _challenger_failed(champion: Floats, label: Floats, metric: Metric) -> tuple[Floats, Floats]:
    """The range of loss(champion) − 1."""
    known = metric.loss(champion, label)
    least, greatest = metric.extremes(champion)
    return (
        _where_unlabelled(label, least, known) - 1.0,
        _where_unlabelled(label, greatest, known) - 1.0,
    )


def _where_unlabelled(label: Floats, bound: Floats, known: Floats) -> Floats:
    return np.where(np.isnan(label), bound, known)


def _number(rows: Bools) -> int:
    return int(np.count_nonzero(rows))
