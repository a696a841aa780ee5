"""What operators are told: workers, challengers, evidence, decisions, versions."""

from __future__ import annotations

import msgspec
import pytest

from gateway.judge.acknowledgement import forget_gone
from gateway.ports import EvaluatorReport
from tests.judge.desk import OTHER, WORKER, Desk
from tests.rollouts import facts


def test_status_explains_why_to_wait(desk: Desk) -> None:
    """Before any verdict, and with the judge's own reasons afterwards."""
    desk.challenge()
    (challenger,) = desk.operations.status("demo")["challengers"]
    assert challenger["verdict"]["kind"] == "WAIT"
    assert challenger["verdict"]["reasons"] == ["nothing has been judged yet"]
    assert "counts" not in challenger
    desk.say(1, "PROMOTE")
    (challenger,) = desk.operations.status("demo")["challengers"]
    assert challenger["verdict"]["reasons"] == ["superiority: PROMOTE"]
    assert challenger["counts"]["rows"] == 40
    assert challenger["level"] == desk.store.registrations("demo")[0].level


def test_status_shows_each_live_worker(desk: Desk) -> None:
    """Its epoch, whether it lags, and one that has said nothing is lagging."""
    desk.report(WORKER, epoch=desk.rollout().epoch)
    desk.live = {WORKER, OTHER}
    desk.now_us += 2_000_000
    first, second = desk.operations.status("demo")["workers"]
    assert (first["epoch"], first["is_lagging"], first["age_s"]) == (3, False, 2.0)
    assert second == {"writer_id": OTHER, "is_gone": False, "is_lagging": True}


def test_what_a_worker_said_that_is_gone_is_shown_and_then_forgotten(desk: Desk) -> None:
    """It neither holds up a change nor stands for one, and after ten minutes it is away."""
    desk.report(OTHER, epoch=0, loaded="")
    done = desk.challenge()
    assert OTHER not in (*done.acknowledged, *done.lagging)
    (gone,) = (one for one in desk.operations.status("demo")["workers"] if one["is_gone"])
    assert (gone["writer_id"], gone["is_lagging"]) == (OTHER, False)
    for minutes, left in ((10, {WORKER, OTHER}), (11, {WORKER})):
        now_us = desk.now_us + minutes * 60 * 1_000_000
        forget_gone(desk.store, lambda: desk.live, now_us=now_us)
        assert {report.writer_id for report in desk.store.workers()} == left


def test_status_passes_on_what_the_evaluator_said(desk: Desk) -> None:
    """Nothing before its first word; then lag and books as it reported them."""
    desk.challenge()
    before = desk.operations.status("demo")
    assert before["evaluator"] is None and before["challengers"][0]["shadow"] is None
    said = {
        "sources": {WORKER: {"size": 500, "archived": 480}, OTHER: {"size": 7, "archived": 7}},
        "endpoints": {"demo": {"clock_us": 9, "challengers": {"2": {"lag_rows": 3}}}},
    }
    desk.store.report_evaluator(
        EvaluatorReport(desk.now_us, 7, msgspec.Raw(msgspec.json.encode(said)))
    )
    after = desk.operations.status("demo")
    assert (after["evaluator"]["lag_bytes"], after["evaluator"]["clock_us"]) == (20, 9)
    assert after["challengers"][0]["shadow"] == {"lag_rows": 3}


@pytest.mark.parametrize("body", [b"null", b"{}", b'{"sources":{"w":{}}}', b"[]"])
def test_status_bears_an_evaluator_that_says_little(desk: Desk, body: bytes) -> None:
    """An older or younger Evaluator leaves gaps, not errors."""
    desk.store.report_evaluator(EvaluatorReport(1, 7, msgspec.Raw(body)))
    assert desk.operations.status("demo")["evaluator"]["lag_bytes"] == 0


def test_evidence_shows_every_registration(desk: Desk) -> None:
    """Open ones and closed ones, with the latest checkpoint of each."""
    desk.challenge()
    desk.operations.withdraw("demo", "2", intent=desk.intent())
    desk.challenge()
    desk.say(2, "WAIT")
    desk.say(2, "REJECT")
    first, second = desk.operations.evidence("demo")["registrations"]
    assert first["checkpoint"] is None and first["closed_reason"] == "withdrawn"
    assert second["checkpoint"]["verdict"]["kind"] == "REJECT"
    assert second["terms"]["metric"] == "zero_one"


def test_decisions_come_with_their_own_check(desk: Desk) -> None:
    """A log that nobody touched has no faults."""
    desk.challenge()
    document = desk.operations.decisions("demo")
    assert document["faults"] == []
    assert [line["epoch"] for line in document["decisions"]] == [1, 2, 3, 4]


def test_versions_are_listed_with_their_roles(desk: Desk) -> None:
    """Files that nobody added are named too."""
    desk.challenge()
    desk.shelf.files["9"] = facts("9")
    document = desk.operations.versions("demo")
    roles = {found["version"]: found["role"] for found in document["versions"]}
    assert roles == {"1": "champion", "2": "challenger", "3": None}
    assert document["not_added"] == ["9"]
