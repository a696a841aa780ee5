"""The demo's story, shortened: a better version is promoted, a same one not, a worse one rejected.

Everything goes through public doors: the protocol's own client, `POST /v1/labels`, the command.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.flows.endpoints import STORY
from tests.flows.story_traffic import ROWS, Traffic
from tests.serving_process import ServingProcess, eventually

WEEKS = 6
Document = dict[str, Any]


class Told:
    """The story as it was told, for the claims below."""

    def __init__(self, gateway: ServingProcess, traffic: Traffic) -> None:
        self._gateway = gateway
        self._traffic = traffic
        self.said: dict[tuple[str, str], list[str]] = {}
        self.early = gateway.cli("promote", STORY, "2", "--expected-epoch", "4")
        self.challenge("2")
        self.challenge("4")
        self.too_early = gateway.cli("promote", STORY, "2")
        self.before = self.weeks_until("2", "PROMOTE")
        self.promoted = gateway.cli("promote", STORY, "2", "--reason", "better", "--json")
        self.followers = gateway.followers(STORY, json.loads(self.promoted.stdout)["epoch"])
        self.answer_after = traffic.ask().get_response()
        self.reopened = gateway.status(STORY)
        self.challenge("3")
        before = len(traffic.answers)
        self.after = self.weeks_until("4", "REJECT")
        self.rows_since_third = ROWS * (len(traffic.answers) - before)
        self.refused = gateway.cli("promote", STORY, "4")
        self.withdrawn = gateway.cli("withdraw", STORY, "4", "--reason", "harm", "--json")
        self.decisions = gateway.cli("decisions", STORY, "--json")
        self.evidence = json.loads(gateway.cli("evidence", STORY, "--json").stdout)

    def challenge(self, version: str) -> None:
        """Through the command, as an operator would."""
        done = self._gateway.cli("challenge", STORY, version, "--reason", "try it", "--json")
        assert done.returncode == 0, done.stderr
        self._gateway.followers(STORY, json.loads(done.stdout)["epoch"])

    def weeks_until(self, version: str, kind: str) -> Document:
        """The status after the week in which `version` got this verdict, or after the last."""
        for _ in range(WEEKS):
            self._traffic.week()
            status = self._gateway.caught_up(STORY)
            for challenger in status["challengers"]:
                key = challenger["version"], challenger["champion"]
                self.said.setdefault(key, []).append(challenger["verdict"]["kind"])
            if challenger_of(status, version)["verdict"]["kind"] == kind:
                break
        return status


def challenger_of(status: Document, version: str) -> Document:
    """What a status says of one challenger."""
    found = {one["version"]: one for one in status["challengers"]}
    assert version in found, f"version {version} is no challenger: {status}"
    return dict(found[version])


@pytest.fixture(scope="module")
def told(gateway: ServingProcess) -> Iterator[Told]:
    """The story, told once."""
    with gateway.triton() as triton, gateway.http("label") as labels:
        yield Told(gateway, Traffic(STORY, triton, labels))


def test_a_better_challenger_is_promoted_and_answers(gateway: ServingProcess, told: Told) -> None:
    """The verdict comes with its gates, the command carries it out, the next answer shows it."""
    verdict = challenger_of(told.before, "2")["verdict"]
    assert verdict["kind"] == "PROMOTE" and verdict["n"] >= 7 and verdict["estimate"] > 0.2
    assert {gate["name"] for gate in verdict["gates"]} >= {"superiority", "harm", "min_duration"}
    assert told.promoted.returncode == 0, told.promoted.stderr
    assert len(told.followers) == 2
    assert told.answer_after["model_version"] == "2"
    assert told.answer_after["parameters"]["role"] == "champion"


def test_nothing_is_promoted_before_its_verdict(gateway: ServingProcess, told: Told) -> None:
    """Neither a version that nobody challenged, nor one that was judged by nothing yet."""
    assert told.early.returncode == 1 and "challenge" in told.early.stderr
    assert told.too_early.returncode == 1 and "PROMOTE" in told.too_early.stderr
    assert told.refused.returncode == 1 and "REJECT" in told.refused.stderr


def test_a_challenger_that_is_the_same_is_never_promoted(
    gateway: ServingProcess, told: Told
) -> None:
    """Against the old champion and the new one: WAIT or INCONCLUSIVE, week after week."""
    for pair in (("4", "1"), ("3", "2")):
        assert told.said[pair] and set(told.said[pair]) <= {"WAIT", "INCONCLUSIVE"}, pair


def test_a_worse_challenger_is_rejected_for_harm(gateway: ServingProcess, told: Told) -> None:
    """Version 4 is what version 1 was, and version 2 answers now."""
    verdict = challenger_of(told.after, "4")["verdict"]
    assert verdict["kind"] == "REJECT" and verdict["estimate"] < -0.2
    assert any(reason.startswith("harm") for reason in verdict["reasons"])


def test_a_promotion_closes_what_was_open_and_judges_anew(
    gateway: ServingProcess, told: Told
) -> None:
    """Evidence against the old champion is none against the new one."""
    stayed = challenger_of(told.reopened, "4")
    assert [one["version"] for one in told.reopened["challengers"]] == ["4"]
    assert stayed["champion"] == "2" and stayed["verdict"]["n"] == 0
    found = [
        (one["number"], one["version"], one["champion"], one["closed_epoch"] is None)
        for one in told.evidence["registrations"]
    ]
    assert found == [
        (1, "2", "1", False),
        (2, "4", "1", False),
        (3, "4", "2", False),
        (4, "3", "2", True),
    ]
    reasons = [one["closed_reason"] for one in told.evidence["registrations"]]
    assert reasons[0] == reasons[1] == "version 2 was promoted" and reasons[2] == "withdrawn"


def test_the_decision_log_reads_as_it_happened(gateway: ServingProcess, told: Told) -> None:
    """Who did what and why, in order, and no hash is wrong."""
    assert told.decisions.returncode == 0, told.decisions.stderr
    document = json.loads(told.decisions.stdout)
    assert document["faults"] == []
    happened = [
        (one["command"]["type"], one["command"].get("version"), one["actor"])
        for one in document["decisions"]
        if one["actor"] != "audition"
    ]
    assert happened == [
        ("challenge", "2", "admin"),
        ("challenge", "4", "admin"),
        ("promote", "2", "admin"),
        ("challenge", "3", "admin"),
        ("withdraw", "4", "admin"),
    ]
    assert [one["epoch"] for one in document["decisions"]] == list(
        range(1, len(document["decisions"]) + 1)
    )


def test_the_books_of_the_story_balance(gateway: ServingProcess, told: Told) -> None:
    """Every row of every request since the challenge was compared; nothing pending, none lost."""

    def books() -> Document | None:
        # Drawn up anew every few seconds, so the first to be seen may be old ones, or of a
        # moment when a shadow was still to run.
        found = challenger_of(gateway.status(STORY), "3")["shadow"]["books"]
        is_whole = found and found["journalled"] == told.rows_since_third and not found["pending"]
        return found if is_whole else None

    rows = eventually(books)
    assert rows["compared"] == rows["journalled"]
    assert sum(rows.values()) == 2 * rows["journalled"], "no row is in any other state"
