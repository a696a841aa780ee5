"""Absolute error of a number, clipped: min(|prediction − label|, 1).

Prediction and label come in multiples of the scale that the terms fix (policy.scale), so an
error of one scale or more is wholly wrong. An unclipped error has no bound, and what has no
bound admits no verdict that may be looked at as often as one likes.
"""

from __future__ import annotations

import numpy as np

from gateway.core.arrays import Floats
from gateway.core.metrics.metric import Metric


def loss(prediction: Floats, label: Floats) -> Floats:
    """The distance of prediction and label, at most 1."""
    return np.minimum(np.abs(prediction - label), 1.0)


def extremes(prediction: Floats) -> tuple[Floats, Floats]:
    """A label can be the prediction itself, or a scale away."""
    return np.zeros_like(prediction), np.ones_like(prediction)


def bounds(champion: Floats, challenger: Floats) -> tuple[Floats, Floats]:
    """The loss moves no faster than the label, so no further than the two lie apart."""
    apart = loss(champion, challenger)
    return -apart, apart


METRIC = Metric(
    name="absolute_error",
    tasks=frozenset({"regression"}),
    reads="value",
    loss=loss,
    extremes=extremes,
    bounds=bounds,
)
