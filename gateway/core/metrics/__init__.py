"""The metrics, one file each; a file here with a `METRIC` is a metric."""

from __future__ import annotations

import sys
from functools import cache

from gateway.core.metrics.metric import Metric
from gateway.core.plugins import found
from gateway.errors import InvalidSetting


@cache
def all_metrics() -> dict[str, Metric]:
    """Every metric by name."""
    return {
        metric.name: metric for metric in found(sys.modules[__name__], "METRIC", Metric).values()
    }


def by_name(name: str) -> Metric:
    """Raises InvalidSetting, naming the metrics there are."""
    try:
        return all_metrics()[name]
    except KeyError:
        known = ", ".join(sorted(all_metrics()))
        raise InvalidSetting(f"metric: there is no `{name}`; use one of {known}") from None
