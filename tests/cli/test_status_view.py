"""How a status reads on a terminal: figures with their n, and dashes where nobody has spoken."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from gateway.cli.status_view import statuses_view

LATENCY = {"n": 40, "p50_us": 12.0, "p99_us": 30.0}
FAILURES = {"n": 200, "failed": 1, "timed_out": 2, "nonfinite": 3, "refused": 9}


#: What the Evaluator says of the shadow tax before it knows any.
TAX = {"tax": None, "rounds": 0, "rounds_needed": 15, "budget_ms": None, "duty": 1.0}


def shown(label_free: dict[str, Any] | None) -> str:
    """The status of an endpoint with one challenger, as text."""
    return _text(_status(label_free))


def with_tax(found: dict[str, Any] | None) -> str:
    """The same, when the Evaluator has reported."""
    evaluator = {"age_s": 0.1, "lag_bytes": 0, "shadow_tax": found}
    return _text({**_status(None), "evaluator": evaluator})


def _status(label_free: dict[str, Any] | None) -> dict[str, Any]:
    return {
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


def _text(status: dict[str, Any]) -> str:
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


def test_the_tax_is_shown_with_its_interval_and_n() -> None:
    """And beside the p99 that it is added to."""
    tax = {"rounds": 20, "p99_off_ms": 2, "difference_ms": 1.5, "lower_ms": 1, "upper_ms": 2}
    text = with_tax({**TAX, "rounds": 20, "tax": tax})
    assert "the shadow adds +1.50 ms to the champion's p99 of 2.00 ms" in text
    assert "95% interval +1.00 to +2.00 ms, n=20 rounds" in text
    assert "throttled" not in text


def test_an_unknown_tax_is_no_figure() -> None:
    """Too few rounds, not measured, or no report yet: said so."""
    assert "unknown yet: 3 of 15 rounds" in with_tax({**TAX, "rounds": 3})
    assert "is not measured" in with_tax(None)
    assert "is not measured" in shown(None)


def test_a_throttled_shadow_says_so() -> None:
    """Why its lag grows."""
    text = with_tax({**TAX, "duty": 0.25, "budget_ms": 1.5})
    assert "throttled to 25% of its time by the budget of 1.5 ms" in text
