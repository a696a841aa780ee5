"""From outputs to classes and probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.core.predictions import decide, probability, read
from gateway.core.routes import Reading
from gateway.errors import InvalidSetting

NAN = np.nan


def test_a_probability_decides_from_its_threshold_on() -> None:
    """At the threshold it is class 1; one column, or the last of two, is P(class 1)."""
    assert decide(np.array([0.2, 0.5, 0.7]), "probability").tolist() == [0, 1, 1]
    assert decide(np.array([[0.8, 0.2], [0.3, 0.7]]), "probability").tolist() == [0, 1]
    assert decide(np.array([[0.2], [0.7]]), "probability", threshold=0.8).tolist() == [0, 0]


def test_the_greatest_score_decides_the_first_on_a_tie() -> None:
    """Scores of three classes."""
    assert decide(np.array([[1.0, 5.0, 2.0], [3.0, 0.0, 3.0]]), "scores").tolist() == [1, 0]


@pytest.mark.parametrize("reading", ["probability", "class", "scores"])
@pytest.mark.parametrize("bad", [NAN, np.inf, -np.inf])
def test_an_output_that_is_not_finite_is_no_class(reading: Reading, bad: float) -> None:
    """NaN comes out, never class 0, so that the row counts as a failure."""
    classes = decide(np.array([[bad], [1.0]]), reading)
    assert np.isnan(classes[0])
    assert np.isfinite(classes[1])
    assert np.isnan(decide(np.array([[0.1, bad]]), "scores"))[0]


@pytest.mark.parametrize("bad", [NAN, np.inf])
def test_an_output_that_is_not_finite_is_no_probability(bad: float) -> None:
    """Also where the other column is fine."""
    assert np.isnan(probability(np.array([[bad, 0.4]]), "probability"))[0]


def test_a_metric_reads_what_it_needs() -> None:
    """The class for one, the probability of class 1 for the other."""
    outputs = np.array([[0.3, 0.7]])
    assert read(outputs, "probability", "class").tolist() == [1.0]
    assert read(outputs, "scores", "probability").tolist() == [0.7]
    assert read(outputs, "probability", "class", threshold=0.9).tolist() == [0.0]


@pytest.mark.parametrize(
    ("outputs", "reading", "field"),
    [
        (np.zeros(2), "class", "prediction.reading"),
        (np.zeros((2, 3)), "probability", "prediction.output"),
        (np.zeros((2, 2, 2)), "scores", "prediction.output"),
        (np.zeros((2, 0)), "scores", "prediction.output"),
    ],
)
def test_an_output_that_cannot_be_a_probability_is_refused(
    outputs: np.ndarray[tuple[int, ...], np.dtype[np.float64]], reading: Reading, field: str
) -> None:
    """The message names the key of the endpoint file."""
    with pytest.raises(InvalidSetting, match=field):
        probability(outputs, reading)


def test_a_class_must_be_one_column() -> None:
    """Two columns are scores, and the message says so."""
    with pytest.raises(InvalidSetting, match="scores"):
        decide(np.zeros((3, 2)), "class")
