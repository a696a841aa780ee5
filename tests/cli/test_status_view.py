"""How a status reads on a terminal: figures with their n, and dashes where nobody has spoken."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from gateway.cli.status_view import statuses_view

LATENCY = {"n": 40, "p50_us": 12.0, "p99_us": 30.0}
FAILURES = {"n": 200, "failed": 1, "timed_out": 2, "nonfinite": 3, "refused": 9}


def shown(label_free: dict[str, Any] | None) -> str:
    """The status of an endpoint with one challenger, as text."""
    status = {
        "endpoint": "demo",
        "epoch": 7,
        "phase": "shadow",
        "champion": {"version": "1"},
        "split_bp": {"1": 10_000},
        "workers": [],
        "evaluator": None,
        "challengers": [
            {
                "version": "2",
                "sample_bp": 2_500,
                "verdict": {"kind": "WAIT", "reasons": ["min_entities: 0 < 30"], "n": 0},
                "shadow": {"label_free": label_free},
            }
        ],
    }
    output = StringIO()
    Console(file=output, width=200).print(statuses_view(status))
    return output.getvalue()


def test_what_is_known_without_labels_is_shown_with_its_n() -> None:
    """Agreement, failures of both versions, and how long each took on the same rows."""
    text = shown(
        {
            "agreement": 0.98765,
            "both_answered": 194,
            "champion": {**FAILURES, "failed": 0, "timed_out": 0, "nonfinite": 0},
            "challenger": FAILURES,
            "champion_latency": LATENCY,
            "challenger_latency": {**LATENCY, "p50_us": 15.0},
        }
    )
    assert "agree on 98.77% of 194 rows" in text
    assert "champion failed on 0 of 200; challenger failed on 6 of 200" in text
    assert "median run alone 12 µs (champion) and 15 µs (challenger), n=40" in text


@pytest.mark.parametrize("label_free", [None, {"agreement": None}])
def test_nothing_is_said_where_nothing_is_known(label_free: dict[str, Any] | None) -> None:
    """No rows, no figure."""
    text = shown(label_free)
    assert "without labels" not in text
    assert "2: min_entities: 0 < 30" in text
