"""0/1 loss: 1 where the class is wrong."""

from __future__ import annotations

import numpy as np

from gateway.core.arrays import Floats
from gateway.core.metrics.metric import Metric


def loss(prediction: Floats, label: Floats) -> Floats:
    """1.0 where the two classes differ, else 0.0."""
    return np.not_equal(prediction, label).astype(np.float64)


def extremes(prediction: Floats) -> tuple[Floats, Floats]:
    """Any class can be right or wrong."""
    return np.zeros_like(prediction), np.ones_like(prediction)


def bounds(champion: Floats, challenger: Floats) -> tuple[Floats, Floats]:
    """Equal classes need no label (0, 0); where they differ either may be right."""
    differ = loss(champion, challenger)
    return -differ, differ


METRIC = Metric(
    name="zero_one",
    tasks=frozenset({"binary", "multiclass"}),
    reads="class",
    loss=loss,
    extremes=extremes,
    bounds=bounds,
)
