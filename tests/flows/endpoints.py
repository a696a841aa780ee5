"""The endpoints of the shared gateway, one for each flow, so that no flow sees another's."""

from __future__ import annotations

from pathlib import Path

from tests.synthetic_models import constant, echo, logistic, tumours, write_endpoint

ECHO, STORY, FLIPS, GROWING, LABELLED = "echo", "story", "flips", "growing", "labelled"
CLIENTS, TUMOURS, REHEARSED = "clients", "tumours", "rehearsed"

#: A day is one observation, and a week of days is enough to speak of an average.
_STORY_SETTINGS = {
    "champion": "1",
    "event_time": "client",
    "labels": {"maturity": "24h"},
    "entity": {"from": "parameter", "window": "24h"},
    "policy": {
        "minimum_effect": 0.05,
        "min_duration": "7d",
        "min_entities": 7,
        "approval": "manual",
    },
}


def write_all(models: Path) -> None:
    """Write every endpoint below `models`."""
    write_endpoint(models, ECHO, {"1": echo()}, {"allow_pinned": True})
    write_endpoint(
        models,
        STORY,
        {
            "1": logistic({"noise": 4.0}),
            "2": logistic({"signal": 8.0}),
            "3": logistic({"signal": 8.0, "noise": 0.4}),
            "4": logistic({"noise": 3.0}),
        },
        _STORY_SETTINGS,
    )
    write_endpoint(
        models,
        REHEARSED,
        {"1": logistic({"signal": 2.0, "noise": 4.0}), "2": logistic({"signal": 8.0})},
        _STORY_SETTINGS,
    )
    write_endpoint(models, FLIPS, {str(n): constant(n / 10) for n in (1, 2, 3)}, {"champion": "1"})
    write_endpoint(
        models,
        GROWING,
        {"1": logistic({"x": 1.0})},
        {
            "prediction": {"output": {"1": "score", "2": "chance"}},
            "event_time": "client",
            "labels": {"maturity": "1h"},
            "shadow": {"sample": "100%"},
        },
    )
    three = echo("FP32", "INT64", "BYTES")
    write_endpoint(models, TUMOURS, {"1": tumours()})
    write_endpoint(models, CLIENTS, {"1": three}, {"allow_pinned": True})
    write_endpoint(models, LABELLED, {"1": constant(0.5)})
