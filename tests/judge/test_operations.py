"""What operators can do: each change against a real store, with workers that report."""

from __future__ import annotations

import threading
from math import pi
from pathlib import Path

import pytest

from gateway.errors import Conflict, InvalidInput, InvalidName, Refused, UnknownVersion
from gateway.judge.operations import Operations
from tests.judge.desk import OTHER, WORKER, Desk
from tests.rollouts import facts


def test_an_added_version_is_known_and_idle(desk: Desk, tmp_path: Path) -> None:
    """It gets no traffic, and its name is used once."""
    assert desk.rollout().versions["3"] == facts("3")
    assert desk.rollout().phase == "solo"
    with pytest.raises(Refused, match="immutable"):
        desk.operations.add_version("demo", "3", tmp_path / "3", intent=desk.intent())


@pytest.mark.parametrize("version", ["../1", "", "A", "a" * 64])
def test_a_version_that_is_no_name_is_refused(desk: Desk, tmp_path: Path, version: str) -> None:
    """Nothing is ever written outside the repository."""
    with pytest.raises(InvalidName):
        desk.operations.add_version("demo", version, tmp_path / "3", intent=desk.intent())
    with pytest.raises(InvalidName):
        desk.challenge(version)


def test_a_challenge_opens_a_registration_with_its_terms(desk: Desk) -> None:
    """Terms copy the rules and digests, and the challenger carries their digest."""
    done = desk.challenge(sample_bp=2500)
    (registration,) = desk.store.registrations("demo")
    challenger = desk.rollout().challengers["2"]
    policy = desk.rollout().rules.policy
    assert registration.terms.champion_digest == facts("1").digest
    assert registration.terms.challenger_digest == facts("2").digest
    assert registration.terms.minimum_effect == policy.minimum_effect
    assert registration.terms.maturity_s == desk.rollout().rules.maturity_s
    assert registration.digest == registration.terms.digest() == challenger.registration_digest
    assert (challenger.registration, challenger.probability_bp) == (1, 2500)
    assert registration.opened_epoch == done.epoch == desk.rollout().epoch
    assert registration.opened_at_us == desk.now_us
    assert [(o.version, o.registration) for o in done.opened] == [("2", 1)]


def test_levels_shrink_with_each_registration(desk: Desk) -> None:
    """e-LOND without promotions: α · 6/π² / j²."""
    for _ in range(3):
        desk.challenge()
        desk.operations.withdraw("demo", "2", intent=desk.intent())
    levels = [r.level for r in desk.store.registrations("demo")]
    assert levels == pytest.approx([0.05 * 6 / pi**2 / j**2 for j in (1, 2, 3)], rel=1e-12)


def test_only_promotions_by_verdict_buy_level(desk: Desk) -> None:
    """A forced promotion and a rollback leave the next level where it was."""
    desk.challenge()
    desk.promote(is_forced=True)
    desk.operations.rollback("demo", intent=desk.intent())
    desk.challenge("3")
    assert desk.store.registrations("demo")[-1].level == pytest.approx(0.05 * 6 / pi**2 / 4)
    desk.say(2, "PROMOTE")
    desk.promote("3")
    desk.challenge()
    assert desk.store.registrations("demo")[-1].level == pytest.approx(0.05 * 6 / pi**2 / 9 * 2)


def test_a_file_put_there_by_hand_can_challenge(desk: Desk) -> None:
    """It is made known first; a version without a file cannot."""
    desk.shelf.files["4"] = facts("4")
    desk.challenge("4")
    assert [line.command["type"] for line in desk.store.decisions("demo")][-2:] == [
        "add_version",
        "challenge",
    ]
    with pytest.raises(UnknownVersion, match="version 5"):
        desk.challenge("5")


def test_a_file_that_changed_cannot_challenge(desk: Desk) -> None:
    """Versions are immutable; the digest says so."""
    desk.shelf.files["2"] = facts("2", digest="f" * 64)
    with pytest.raises(Refused, match="immutable"):
        desk.challenge()
    assert desk.store.registrations("demo") == []


def test_a_challenger_that_one_request_cannot_feed_is_refused(desk: Desk) -> None:
    """The same input with two datatypes cannot come in one request."""
    desk.shelf.files["4"] = facts("4", datatype="INT64")
    with pytest.raises(Refused, match="input x"):
        desk.challenge("4")
    assert desk.store.registrations("demo") == []


def test_a_refused_challenge_opens_nothing(desk: Desk) -> None:
    """Neither the champion nor a challenger twice."""
    desk.challenge()
    for version, reason in (("1", "is the champion"), ("2", "already")):
        with pytest.raises(Refused, match=reason):
            desk.challenge(version)
    with pytest.raises(Refused, match="0 to 10000"):
        desk.challenge("3", sample_bp=10_001)
    assert len(desk.store.registrations("demo")) == 1


def test_a_withdrawal_closes_the_registration(desk: Desk) -> None:
    """The terms stay readable, with the reason of their end."""
    desk.challenge()
    done = desk.operations.withdraw("demo", "2", intent=desk.intent())
    (registration,) = desk.store.registrations("demo")
    assert (registration.closed_epoch, registration.closed_reason) == (done.epoch, "withdrawn")
    with pytest.raises(Refused, match="no challenger"):
        desk.operations.withdraw("demo", "2", intent=desk.intent())


def test_a_change_decided_on_another_epoch_is_a_conflict(desk: Desk, tmp_path: Path) -> None:
    """Every change names the epoch that is current, and none of them is made."""
    desk.challenge()
    before, operations, old = desk.rollout(), desk.operations, desk.intent(epoch=1)
    changes = (
        lambda: operations.add_version("demo", "9", tmp_path / "3", intent=old),
        lambda: operations.challenge("demo", "3", intent=old),
        lambda: operations.withdraw("demo", "2", intent=old),
        lambda: operations.split("demo", {"1": 10_000}, intent=old),
        lambda: operations.shadow("demo", "2", sample_bp=1, intent=old),
        lambda: operations.promote("demo", "2", intent=old, is_forced=True),
        lambda: operations.rollback("demo", intent=old),
    )
    for change in changes:
        with pytest.raises(Conflict) as lost:
            change()
        assert lost.value.epoch == before.epoch
    assert desk.rollout() == before


def test_a_split_and_a_shadow_are_changed(desk: Desk) -> None:
    """The rollout says what was asked for."""
    desk.challenge()
    desk.operations.split("demo", {"1": 9000, "2": 1000}, intent=desk.intent())
    desk.operations.shadow("demo", "2", sample_bp=42, intent=desk.intent())
    assert desk.rollout().split == {"1": 9000, "2": 1000}
    assert desk.rollout().challengers["2"].probability_bp == 42


def test_traffic_never_goes_where_a_worker_has_not_loaded(desk: Desk) -> None:
    """Split, promotion and rollback name the worker that is behind."""
    desk.challenge()
    desk.promote(is_forced=True)
    desk.challenge("3")
    desk.live = {WORKER, OTHER}
    desk.report(OTHER, loaded="2")
    before = desk.rollout()
    changes = (
        lambda: desk.operations.split("demo", {"2": 9000, "3": 1000}, intent=desk.intent()),
        lambda: desk.promote("3", is_forced=True),
        lambda: desk.operations.rollback("demo", intent=desk.intent()),
    )
    for change in changes:
        with pytest.raises(Refused, match=OTHER):
            change()
    assert desk.rollout() == before
    desk.report(OTHER, loaded="123")
    changes[0]()


def test_a_live_worker_that_said_nothing_has_loaded_nothing(desk: Desk) -> None:
    """Silence is no consent; a dead worker's silence does not matter."""
    desk.challenge()
    desk.live = {WORKER, OTHER}
    with pytest.raises(Refused, match=OTHER):
        desk.promote(is_forced=True)
    desk.live = {WORKER}
    desk.promote(is_forced=True)


def test_a_change_says_who_serves_by_it(desk: Desk) -> None:
    """A worker that reported the epoch has acknowledged, another is lagging."""
    desk.live = {WORKER, OTHER}
    desk.report(WORKER, epoch=desk.rollout().epoch + 1)
    done = desk.challenge()
    assert (done.acknowledged, done.lagging) == ([WORKER], [OTHER])


def test_a_change_waits_until_every_worker_has_heard(desk: Desk) -> None:
    """It returns as soon as the last one reports."""
    patient = Operations(
        desk.store,
        clock_us=lambda: desk.now_us,
        live_workers=lambda: desk.live,
        repository=desk.shelf,
        acknowledge_within_s=60,
    )
    expected = desk.rollout().epoch + 1

    def follow() -> None:
        while desk.rollout().epoch < expected:
            pass
        desk.report(WORKER, epoch=expected)

    worker = threading.Thread(target=follow)
    worker.start()
    done = patient.challenge("demo", "2", intent=desk.intent())
    worker.join()
    assert (done.acknowledged, done.lagging) == ([WORKER], [])


def test_a_key_is_made_once_and_known_by_its_digest(desk: Desk) -> None:
    """The token is in the answer only."""
    made = desk.operations.create_key(name="ci", role="label", endpoints=["demo"])
    assert made.token.startswith("aud_label_") and len(made.token) == len("aud_label_") + 43
    assert desk.operations.keys() == [made.key]
    assert made.token not in repr(desk.operations.keys())
    with pytest.raises(Conflict):
        desk.operations.create_key(name="ci", role="view")
    with pytest.raises(InvalidInput, match="role"):
        desk.operations.create_key(name="x", role="root")
    with pytest.raises(InvalidName):
        desk.operations.create_key(name="no name", role="view")
