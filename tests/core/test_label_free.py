"""The report for those who have no labels yet."""

from __future__ import annotations

import msgspec
import numpy as np

from gateway.core.label_free import Figure, LabelFree, report


def figures(value: object) -> list[dict[str, object]]:
    """Every figure in the report, as it is written."""
    if not isinstance(value, dict):
        return []
    return [value] if "n" in value else [f for part in value.values() for f in figures(part)]


def test_versions_are_compared_where_both_answered() -> None:
    """Agreement and shift leave failures out, failures count over all, latency over pairs."""
    said = report(
        champion_prediction=np.array([1.0, 0.0, 1.0, np.nan, 1.0]),
        challenger_prediction=np.array([1.0, 1.0, 0.0, 1.0, np.nan]),
        champion_failed=np.array([False, False, True, False, False]),
        challenger_failed=np.array([False, False, False, False, True]),
        champion_latency_us=np.array([100, 200, 300]),
        challenger_latency_us=np.array([150, 210, 900]),
    )
    assert said.agreement == Figure(0.5, 2)
    assert said.shift == Figure(0.5, 2)
    assert said.champion_failures == Figure(0.4, 5)
    assert said.challenger_failures == Figure(0.2, 5)
    assert said.latency.champion_p50_us == Figure(200.0, 3)
    assert said.latency.difference_us == Figure(50.0, 3)


def test_without_rows_there_is_no_figure() -> None:
    """Every value is None with n = 0, and the report is one of a kind of its own."""
    none = np.empty(0)
    said = report(
        champion_prediction=none,
        challenger_prediction=none,
        champion_failed=none.astype(bool),
        challenger_failed=none.astype(bool),
        champion_latency_us=none.astype(np.int64),
        challenger_latency_us=none.astype(np.int64),
    )
    written = msgspec.json.decode(msgspec.json.encode(said))
    assert written["kind"] == "label_free"
    assert len(figures(written)) == 9
    assert all(figure == {"value": None, "n": 0} for figure in figures(written))
    assert msgspec.json.decode(msgspec.json.encode(said), type=LabelFree) == said
