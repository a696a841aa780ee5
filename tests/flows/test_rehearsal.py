"""A late challenger: rehearsed on the past, then in shadow, then rehearsed on those very rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from tests.flows.endpoints import REHEARSED
from tests.flows.story_traffic import REQUESTS_A_DAY, ROWS, Traffic
from tests.serving_process import ServingProcess, eventually

Document = dict[str, Any]
WEEK_ROWS = 7 * REQUESTS_A_DAY * ROWS
SINCE_CHALLENGE = "2013-04-08T00:00:00Z"  # the second week of the traffic


class Told:
    """A week without a challenger, a rehearsal, a week in shadow, and a rehearsal of that week."""

    def __init__(self, gateway: ServingProcess, models: Path, traffic: Traffic) -> None:
        self._gateway, self._models = gateway, models
        traffic.week()
        self.before = gateway.caught_up(REHEARSED)
        self.first = self.rehearse()
        self.after = gateway.status(REHEARSED)
        challenged = json.loads(gateway.cli("challenge", REHEARSED, "2", "--json").stdout)
        gateway.followers(REHEARSED, challenged["epoch"])
        traffic.week()
        (self.challenger,) = gateway.caught_up(REHEARSED)["challengers"]
        self.again = self.rehearse("--since", SINCE_CHALLENGE)
        self.promoted = gateway.cli("promote", REHEARSED, "2")

    def rehearse(self, *arguments: str) -> Document:
        """The command as an operator of the machine runs it."""
        models = ("--models", str(self._models))
        done = self._gateway.cli("rehearse", REHEARSED, "2", "--json", *models, *arguments)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def label_free(self) -> Document:
        """What the shadow's report says once all of the second week is in it."""

        def read() -> Document | None:
            (challenger,) = self._gateway.status(REHEARSED)["challengers"]
            report: Document = (challenger["shadow"] or {}).get("label_free") or {}
            return report if report.get("both_answered") == WEEK_ROWS else None

        return eventually(read)

    def export(self, file: Path) -> pa.Table:
        """The inference table."""
        done = self._gateway.cli("export", REHEARSED, "--output", str(file))
        assert done.returncode == 0, done.stderr
        return pq.read_table(file)


@pytest.fixture(scope="module")
def told(gateway: ServingProcess, models: Path) -> Iterator[Told]:
    """The story, told once."""
    with gateway.triton() as triton, gateway.http("label") as labels:
        yield Told(gateway, models, Traffic(REHEARSED, triton, labels))


def test_the_past_is_shown_before_anybody_challenges(told: Told) -> None:
    """All of the first week, with a file that the gateway does not know."""
    assert told.first["rows"]["run"] == told.first["rows"]["read"] == WEEK_ROWS
    losses = told.first["result"]["losses"]
    assert losses["challenger"] < losses["champion"]
    assert told.first["can_promote"] is False


def test_a_rehearsal_leaves_no_trace_and_no_evidence(told: Told) -> None:
    """Neither a version nor an epoch, and the verdict begins with the rows after the challenge."""
    assert told.after["epoch"] == told.before["epoch"]
    assert told.after["challengers"] == []
    assert told.challenger["counts"]["rows"] == told.again["result"]["judged"] < WEEK_ROWS
    assert told.promoted.returncode == 1


def test_shadow_and_rehearsal_say_the_same_of_the_same_rows(told: Told) -> None:
    """Estimate, bound, counts and agreement; levels differ, as a registration opened now would."""
    verdict, difference = told.challenger["verdict"], told.again["result"]["difference"]
    assert told.again["rows"]["read"] == WEEK_ROWS
    for figure in ("n", "estimate", "upper"):
        assert verdict[figure] == difference[figure]
    counts, result = told.challenger["counts"], told.again["result"]
    assert counts["labelled"] == result["labelled"] == result["losses"]["n"]
    assert told.label_free()["agreement"] == result["without_labels"]["agreement"]


def test_both_losses_are_those_of_what_the_shadow_answered(told: Told, tmp_path: Path) -> None:
    """Computed from the exported answers of champion and shadow, row by row."""
    table = told.export(tmp_path / "table.parquet").sort_by("occurred_at")
    since = datetime.fromisoformat(SINCE_CHALLENGE)
    losses = told.again["result"]["losses"]
    judged = table.filter(pc.field("occurred_at") >= since).slice(0, losses["n"])
    label = judged["label"].to_numpy()
    for role, version in (("champion", "1"), ("challenger", "2")):
        score = judged[f"versions.{version}.outputs.score"].to_numpy()
        assert losses[role] == pytest.approx(np.mean((score >= 0.5) != label))
