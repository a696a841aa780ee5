"""Brier loss of a binary probability: (P(class 1) − label)², label 0 or 1 (Brier 1950).

A number outside [0, 1] is no probability: its loss is clipped, so that one row can never
count for more than a row.
"""

from __future__ import annotations

import numpy as np

from gateway.core.arrays import Floats
from gateway.core.metrics.metric import Metric


def loss(prediction: Floats, label: Floats) -> Floats:
    """The square of the distance between probability and label, the distance at most 1."""
    return np.square(np.minimum(np.abs(prediction - label), 1.0))


def extremes(prediction: Floats) -> tuple[Floats, Floats]:
    """The loss under the kinder and under the harsher of the two labels."""
    if_0, if_1 = _under_each_label(prediction)
    return np.minimum(if_0, if_1), np.maximum(if_0, if_1)


def bounds(champion: Floats, challenger: Floats) -> tuple[Floats, Floats]:
    """Loss(champion) − loss(challenger) under the worse and the better of the two labels."""
    champion_if_0, champion_if_1 = _under_each_label(champion)
    challenger_if_0, challenger_if_1 = _under_each_label(challenger)
    if_0, if_1 = champion_if_0 - challenger_if_0, champion_if_1 - challenger_if_1
    return np.minimum(if_0, if_1), np.maximum(if_0, if_1)


def _under_each_label(prediction: Floats) -> tuple[Floats, Floats]:
    return loss(prediction, np.zeros_like(prediction)), loss(prediction, np.ones_like(prediction))


METRIC = Metric(
    name="brier",
    tasks=frozenset({"binary"}),
    reads="probability",
    loss=loss,
    extremes=extremes,
    bounds=bounds,
)
