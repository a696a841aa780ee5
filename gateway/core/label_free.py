"""What can be said of two versions without a single label: how they differ, not which is better.

Rules: a report of its own kind. It holds no gate and no verdict kind, and nothing that
promotes may read it. No figure comes without its n; with n = 0 the value is None.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from gateway.core.arrays import Bools, Floats, Ints


class Figure(msgspec.Struct, frozen=True):
    """A number and how many rows it is from."""

    value: float | None
    n: int


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Run times of rows that both versions ran one by one, in µs.

    `difference_us` is the median of challenger − champion, row by row.
    """

    champion_p50_us: Figure
    champion_p95_us: Figure
    challenger_p50_us: Figure
    challenger_p95_us: Figure
    difference_us: Figure


class LabelFree(msgspec.Struct, frozen=True, kw_only=True):
    """The report. `shift` is the mean of challenger − champion over the rows both answered."""

    kind: Literal["label_free"] = "label_free"
    agreement: Figure
    shift: Figure
    champion_failures: Figure
    challenger_failures: Figure
    latency: Latency


def report(
    *,
    champion_prediction: Floats,
    challenger_prediction: Floats,
    champion_failed: Bools,
    challenger_failed: Bools,
    champion_latency_us: Ints,
    challenger_latency_us: Ints,
) -> LabelFree:
    """Shares and means over n rows; the latencies are those of the m rows run as pairs."""
    finite = np.isfinite(champion_prediction) & np.isfinite(challenger_prediction)
    both = finite & ~champion_failed & ~challenger_failed
    champion, challenger = champion_prediction[both], challenger_prediction[both]
    return LabelFree(
        agreement=_mean(champion == challenger),
        shift=_mean(challenger - champion),
        champion_failures=_mean(champion_failed | ~np.isfinite(champion_prediction)),
        challenger_failures=_mean(challenger_failed | ~np.isfinite(challenger_prediction)),
        latency=_latency(champion_latency_us, challenger_latency_us),
    )


def _latency(champion_us: Ints, challenger_us: Ints) -> Latency:
    return Latency(
        champion_p50_us=_quantile(champion_us, 0.5),
        champion_p95_us=_quantile(champion_us, 0.95),
        challenger_p50_us=_quantile(challenger_us, 0.5),
        challenger_p95_us=_quantile(challenger_us, 0.95),
        difference_us=_quantile(challenger_us - champion_us, 0.5),
    )


def _mean(values: Floats | Bools) -> Figure:
    return Figure(float(values.mean()) if len(values) else None, len(values))


def _quantile(values: Ints, q: float) -> Figure:
    return Figure(float(np.quantile(values, q)) if len(values) else None, len(values))
