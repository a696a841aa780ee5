"""From a model's output to the number that a metric reads.

Rules: row by row, nothing else; a row whose output holds a NaN or an infinity gives NaN,
which the observation counts as a failure. A comparison with NaN is never taken for class 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from gateway.core.arrays import Floats
from gateway.core.routes import Reading
from gateway.errors import InvalidSetting

#: What a metric reads: a class as a number, the probability of class 1, or a number as it is.
Reads = Literal["class", "probability", "value"]


def decide(outputs: Floats, reading: Reading, *, threshold: float = 0.5) -> Floats:
    """The class that each row decides for, float64[n], NaN where the output is not finite.

    `probability`: class 1 from `threshold` on, else class 0. `class`, `value`: the output itself.
    `scores`: the first column with the greatest score, of float64[n, k].
    """
    rows = _rows(outputs)
    if reading == "scores":
        classes = np.argmax(rows, axis=1).astype(np.float64)
    elif reading in ("class", "value"):
        classes = _single(rows, reading)
    else:
        classes = (probability(outputs, reading) >= threshold).astype(np.float64)
    return _nan_where_not_finite(classes, rows)


def probability(outputs: Floats, reading: Reading) -> Floats:
    """P(class 1) of each row, float64[n], from float64[n], [n, 1] or [n, 2].

    Raises InvalidSetting where the output is a class or has more than two columns.
    """
    rows = _rows(outputs)
    if reading in ("class", "value"):
        raise InvalidSetting(
            f"prediction.reading: `{reading}` gives no probability; use a metric that reads it"
        )
    if rows.shape[1] > 2:
        raise InvalidSetting(
            f"prediction.output: {rows.shape[1]} columns are no binary probability; "
            "name an output of one or two columns"
        )
    return _nan_where_not_finite(rows[:, -1], rows)


def read(outputs: Floats, reading: Reading, reads: Reads, *, threshold: float = 0.5) -> Floats:
    """What a metric that `reads` a class or a probability gets to see, float64[n]."""
    readers: dict[Reads, Callable[[], Floats]] = {
        "class": lambda: decide(outputs, reading, threshold=threshold),
        "probability": lambda: probability(outputs, reading),
        "value": lambda: decide(outputs, "value"),
    }
    return readers[reads]()


def _rows(outputs: Floats) -> Floats:
    array = np.asarray(outputs, dtype=np.float64)
    if array.ndim == 1:
        return array[:, np.newaxis]
    if array.ndim == 2 and array.shape[1] > 0:
        return array
    raise InvalidSetting(
        f"prediction.output: shape {array.shape} is not one row per prediction; "
        "name an output of one or two dimensions"
    )


def _single(rows: Floats, reading: Reading) -> Floats:
    if rows.shape[1] != 1:
        raise InvalidSetting(
            f"prediction.output: {rows.shape[1]} columns where `{reading}` needs one; "
            "use `scores` for one column per class"
        )
    return rows[:, 0]


def _nan_where_not_finite(values: Floats, rows: Floats) -> Floats:
    return np.where(np.isfinite(rows).all(axis=1), values, np.nan)
