"""Who becomes champion: by a verdict, by force, and back again."""

from __future__ import annotations

from math import pi

import pytest

from gateway.errors import InvalidInput, Refused
from tests.judge.desk import Desk
from tests.rollouts import facts


@pytest.mark.parametrize("said", [[], ["WAIT"], ["REJECT"], ["INCONCLUSIVE"], ["PROMOTE", "WAIT"]])
def test_a_promotion_without_its_verdict_is_refused(desk: Desk, said: list[str]) -> None:
    """Missing evidence only ever means waiting."""
    desk.challenge()
    for kind in said:
        desk.say(1, kind)
    before = desk.rollout()
    with pytest.raises(Refused, match="verdict on registration 1"):
        desk.promote()
    assert desk.rollout() == before


def test_a_verdict_promotes_and_the_others_stay_under_new_terms(desk: Desk) -> None:
    """Every open registration closes; who stays is judged against the new champion."""
    desk.challenge("2", sample_bp=5000)
    desk.challenge("3", sample_bp=700)
    desk.say(1, "PROMOTE")
    done = desk.promote("2")
    first, second, third = desk.store.registrations("demo")
    assert (first.closed_epoch, second.closed_epoch, third.closed_epoch) == (
        done.epoch,
        done.epoch,
        None,
    )
    assert "version 2" in second.closed_reason
    assert (third.version, third.champion) == ("3", "2")
    assert third.terms.champion_digest == facts("2").digest
    assert third.level == pytest.approx(0.05 * 6 / pi**2 / 9 * 2)  # the promotion just made
    challengers = desk.rollout().challengers
    assert list(challengers) == ["3"]
    assert (challengers["3"].registration, challengers["3"].probability_bp) == (3, 700)
    assert challengers["3"].registration_digest == third.digest


def test_a_twin_of_the_new_champion_does_not_stay(desk: Desk) -> None:
    """The same file under another name cannot be told apart from the champion."""
    desk.shelf.files["4"] = facts("4", digest=facts("2").digest)
    desk.challenge("2")
    desk.challenge("4")
    desk.promote("2", is_forced=True)
    assert desk.rollout().challengers == {}
    assert [r.closed_epoch is None for r in desk.store.registrations("demo")] == [False, False]


def test_force_needs_a_reason(desk: Desk) -> None:
    """A promotion that no evidence backs, and a rollback, say why in the log."""
    desk.challenge()
    silent = desk.intent("  ")
    with pytest.raises(InvalidInput, match="reason"):
        desk.operations.promote("demo", "2", intent=silent, is_forced=True)
    done = desk.promote(is_forced=True)
    line = desk.store.decisions("demo")[-1]
    assert (line.epoch, line.actor, line.reason) == (done.epoch, "ada", "because")
    assert line.command["forced"] is True
    with pytest.raises(InvalidInput, match="reason"):
        desk.operations.rollback("demo", intent=desk.intent(""))


@pytest.mark.parametrize("reason", ["x" * 1001, "red \x1b[31m", "two\nlines"])
def test_a_reason_is_one_readable_line(desk: Desk, reason: str) -> None:
    """It is shown on terminals and web pages later."""
    with pytest.raises(InvalidInput, match="reason"):
        desk.operations.challenge("demo", "2", intent=desk.intent(reason))


def test_a_rollback_brings_back_the_champion_before(desk: Desk) -> None:
    """A challenger that is this champion again is no challenger; the others stay."""
    desk.challenge()
    desk.promote(is_forced=True)
    desk.challenge("1")
    desk.challenge("3")
    desk.operations.rollback("demo", intent=desk.intent())
    rollout = desk.rollout()
    assert (rollout.champion, rollout.previous, list(rollout.challengers)) == ("1", "2", ["3"])
    assert desk.store.registrations("demo")[-1].champion == "1"
    with pytest.raises(Refused, match="no challenger"):
        desk.promote("2", is_forced=True)


def test_there_is_nothing_to_roll_back_to_at_first(desk: Desk) -> None:
    """And nothing is committed."""
    with pytest.raises(Refused, match="no previous champion"):
        desk.operations.rollback("demo", intent=desk.intent())


def test_a_promotion_on_stale_evidence_is_refused(desk: Desk) -> None:
    """A verdict whose Evaluator went silent an hour ago may be about other traffic."""
    desk.challenge("2")
    desk.report(epoch=desk.rollout().epoch)
    desk.say(1, "PROMOTE")
    desk.now_us += 3_600_000_000
    with pytest.raises(Refused, match="last reported 3600 s ago"):
        desk.operations.promote("demo", "2", intent=desk.intent())
    desk.operations.promote("demo", "2", intent=desk.intent(), is_forced=True)
