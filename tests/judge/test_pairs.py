"""From archived pairs to advantages: classes by name, a reading for each version, errors."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from gateway.core.evidence import Histogram
from gateway.core.routes import PredictionReading, VersionReading
from gateway.judge.pairs import Judged, judge_pairs
from tests.archive.scenes import registration, terms

CLASSES = ("ape", "bee", "cat")
_NONE: list[Any] = []


def _judged(
    champion: list[Any],
    challenger: list[Any],
    *,
    label: list[float | None] = _NONE,
    text: list[str | None] = _NONE,
    **fixed: Any,
) -> Judged:
    rows = len(champion)
    kind = pa.string() if isinstance(champion[0], str) else pa.list_(pa.float64())
    table = pa.table(
        {
            "state": ["compared"] * rows,
            "entity": pa.array([None] * rows, pa.string()),
            "champion_status": ["ok"] * rows,
            "challenger_status": ["ok"] * rows,
            "champion_output": pa.array(champion, kind),
            "challenger_output": pa.array(challenger, kind),
            "label": pa.array(label or [None] * rows, pa.float64()),
            "label_text": pa.array(text or [None] * rows, pa.string()),
        }
    )
    return judge_pairs(table, registration(terms(**fixed)))


def _advantages(judged: Judged) -> dict[float, int]:
    """Advantage → rows."""
    histogram: Histogram = judged.evidence.benefit
    found = zip(histogram.values.tolist(), histogram.counts.tolist(), strict=True)
    return {value / 65_536: count for value, count in found}


def test_scores_meet_labels_by_the_name_of_the_class() -> None:
    """The greatest column is a class of the endpoint's order; the label names one, or its place."""
    judged = _judged(
        [[0.1, 0.2, 0.7], [0.1, 0.2, 0.7], [0.9, 0.0, 0.1]],
        [[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.9, 0.1, 0.0]],
        text=["cat", "ape", None],
        label=[None, None, 0.0],
        task="multiclass",
        prediction=PredictionReading(reading="scores", classes=CLASSES),
    )
    assert _advantages(judged) == {1.0: 1, -1.0: 1, 0.0: 1}
    assert judged.unreadable_labels == 0


def test_a_label_of_no_class_cannot_be_read() -> None:
    """It is counted, and the row is as one without a label: as bad as it can be."""
    judged = _judged(
        [[0.1, 0.2, 0.7]] * 2,
        [[0.8, 0.1, 0.1]] * 2,
        text=["dog", None],
        label=[None, 7.0],
        task="multiclass",
        prediction=PredictionReading(reading="scores", classes=CLASSES),
    )
    assert judged.unreadable_labels == 2
    assert _advantages(judged) == {-1.0: 2}


def test_each_version_is_read_in_its_own_way() -> None:
    """One gives scores, the other the class itself."""
    reading = PredictionReading(
        reading="scores", classes=CLASSES, versions={"2": VersionReading("class")}
    )
    judged = _judged(
        [[0.1, 0.2, 0.7]], [[1.0]], text=["bee"], task="multiclass", prediction=reading
    )
    assert _advantages(judged) == {1.0: 1}


def test_a_threshold_of_its_own() -> None:
    """The same probability is another class."""
    reading = PredictionReading(versions={"2": VersionReading(threshold=0.2)})
    judged = _judged([[0.3]], [[0.3]], label=[1.0], prediction=reading)
    assert _advantages(judged) == {1.0: 1}


def test_texts_meet_labels_by_name() -> None:
    """A class that nobody declared is a failure of the version that gave it."""
    judged = _judged(
        ["cat", "cat"],
        ["ape", "dog"],
        text=["ape", "cat"],
        task="multiclass",
        prediction=PredictionReading(reading="class", classes=CLASSES),
    )
    assert _advantages(judged) == {1.0: 1, -1.0: 1}
    assert judged.evidence.counts.challenger_failures == 1


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_errors_count_in_multiples_of_the_scale(scale: float) -> None:
    """And at most one whole: a hundred off is no worse than one scale off."""
    judged = _judged(
        [[10.0], [10.0]],
        [[10.5], [110.0]],
        label=[10.5, 10.0],
        task="regression",
        metric="absolute_error",
        prediction=PredictionReading(reading="value"),
        scale=scale,
    )
    assert _advantages(judged) == {0.5 / scale: 1, -1.0: 1}
