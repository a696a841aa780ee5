"""Finding what a package holds."""

from __future__ import annotations

import gateway.core.metrics
from gateway.core.metrics.metric import Metric
from gateway.core.plugins import found


def test_only_modules_that_name_one_are_found() -> None:
    """Support modules of the package, and attributes of another kind, are passed over."""
    assert list(found(gateway.core.metrics, "METRIC", Metric)) == [
        "absolute_error",
        "brier",
        "zero_one",
    ]
    assert found(gateway.core.metrics, "METRIC", int) == {}
    assert found(gateway.core.metrics, "ABSENT", Metric) == {}
