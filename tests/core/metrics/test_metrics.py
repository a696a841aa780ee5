"""The contract of every metric; a new file in the package is tested here by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import (  # type: ignore[import-untyped]
    brier_score_loss,
    mean_absolute_error,
    zero_one_loss,
)

from gateway.core.arrays import Floats
from gateway.core.metrics import all_metrics, by_name
from gateway.core.metrics.metric import Metric
from gateway.core.predictions import decide
from gateway.errors import InvalidSetting

#: Mean loss by somebody else's code: (label, prediction) → float. Every metric needs one.
ORACLES: dict[str, Callable[[Floats, Floats], float]] = {
    "absolute_error": lambda label, prediction: float(mean_absolute_error(label, prediction)),
    "brier": lambda label, prediction: float(brier_score_loss(label, prediction)),
    "zero_one": lambda label, prediction: float(zero_one_loss(label, prediction)),
}
METRICS = sorted(all_metrics().values(), key=lambda metric: metric.name)


def labels(metric: Metric, *found: Floats) -> list[Floats]:
    """Labels at which a loss and a difference of losses can be least and greatest."""
    if metric.reads == "value":
        return [*found, *(one + 5.0 for one in found), *(one - 5.0 for one in found)]
    return [np.full_like(found[0], label) for label in (0.0, 1.0)]


def predictions(metric: Metric, seed: int, n: int = 200) -> Floats:
    """Probabilities, or the classes that they decide for."""
    values = np.random.default_rng(seed).random(n)
    values[:3] = (0.0, 1.0, 0.5)
    return decide(values, "probability") if metric.reads == "class" else values


def named(metric: Metric) -> str:
    return metric.name


@pytest.mark.parametrize("metric", METRICS, ids=named)
def test_the_loss_is_the_oracles(metric: Metric) -> None:
    """The mean loss equals that of an implementation that we did not write."""
    label = np.random.default_rng(1).integers(0, 2, 200).astype(np.float64)
    prediction = predictions(metric, 2)
    expected = ORACLES[metric.name](label, prediction)
    assert metric.loss(prediction, label).mean() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS, ids=named)
def test_extremes_and_bounds_are_those_over_all_labels(metric: Metric) -> None:
    """Least and greatest loss, and advantage, found by trying every label."""
    champion, challenger = predictions(metric, 3), predictions(metric, 4)
    possible = labels(metric, champion, challenger)
    losses = np.array([metric.loss(champion, label) for label in possible])
    others = np.array([metric.loss(challenger, label) for label in possible])
    for found, expected in (
        (metric.extremes(champion), losses),
        (metric.bounds(champion, challenger), losses - others),
    ):
        assert np.array_equal(found[0], expected.min(axis=0))
        assert np.array_equal(found[1], expected.max(axis=0))


@pytest.mark.parametrize("metric", METRICS, ids=named)
def test_a_loss_is_one_rows_and_within_its_bounds(metric: Metric) -> None:
    """In [0, 1] also for what is no probability; the same alone, shuffled or in parts."""
    prediction = np.concatenate((predictions(metric, 5), [-3.0, 7.0, 1e300]))
    label = np.random.default_rng(6).integers(0, 2, len(prediction)).astype(np.float64)
    loss = metric.loss(prediction, label)
    assert ((loss >= 0) & (loss <= 1)).all()
    order = np.random.default_rng(7).permutation(len(loss))
    assert np.array_equal(metric.loss(prediction[order], label[order]), loss[order])
    assert metric.loss(prediction[:0], label[:0]).tolist() == []
    least, greatest = metric.extremes(prediction)
    assert ((least <= loss) & (loss <= greatest)).all()


@pytest.mark.parametrize("metric", METRICS, ids=named)
def test_equal_predictions_are_equally_good(metric: Metric) -> None:
    """Whatever the label will be, the advantage is 0."""
    least, greatest = metric.bounds(predictions(metric, 8), predictions(metric, 8))
    assert not least.any()
    assert not greatest.any()


def test_an_unknown_metric_is_named_with_those_there_are() -> None:
    """The message helps to fix the endpoint file."""
    with pytest.raises(
        InvalidSetting, match="metric: there is no `auc`; use one of absolute_error, brier, zero"
    ):
        by_name("auc")


def test_a_metric_is_found_by_its_own_name() -> None:
    """File, name and entry are the same word."""
    assert {name: metric.name for name, metric in all_metrics().items()} == {
        "absolute_error": "absolute_error",
        "brier": "brier",
        "zero_one": "zero_one",
    }
