"""What operators can do: each change against a real store, with workers that report."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from math import pi
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.core.routes import Rollout
from gateway.errors import Conflict, InvalidInput, InvalidName, Refused, UnknownVersion
from gateway.judge.acknowledgement import forget_gone
from gateway.judge.changes import Change, Intent
from gateway.judge.operations import Operations
from gateway.ports import EvaluatorReport, WorkerReport
from gateway.stores.sql import SqlStore
from tests.rollouts import Shelf, facts, solo, store_at
from tests.verdicts import checkpoint_of

WORKER, OTHER = "a" * 12, "b" * 12


class Desk:
    """Operations over a store, one live worker that has loaded everything, and a clock."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.live = {WORKER}
        self.shelf = Shelf(*(facts(version) for version in "123"))
        self.now_us = 1_000_000
        self.operations = Operations(
            store,
            clock_us=lambda: self.now_us,
            live_workers=lambda: self.live,
            repository=self.shelf,
            acknowledge_within_s=0,
        )

    def report(self, writer_id: str = WORKER, *, loaded: str = "123", epoch: int = 0) -> None:
        """Let a worker say what it has loaded."""
        digests = [facts(version).digest for version in loaded]
        self.store.report_worker(
            WorkerReport(writer_id, 1, "h", self.now_us, {"demo": epoch}, {"demo": digests})
        )

    def rollout(self) -> Rollout:
        """The rollout now."""
        return self.store.rollout("demo")

    def intent(self, reason: str = "because", *, epoch: int | None = None) -> Intent:
        """An intent decided on the epoch now, unless another is given."""
        expected = self.rollout().epoch if epoch is None else epoch
        return Intent(actor="ada", reason=reason, expected_epoch=expected)

    def challenge(self, version: str = "2", **options: Any) -> Change:
        """Challenge with the intent of now."""
        return self.operations.challenge("demo", version, intent=self.intent(), **options)

    def promote(self, version: str = "2", **options: Any) -> Change:
        """Promote with the intent of now."""
        return self.operations.promote("demo", version, intent=self.intent(), **options)

    def say(self, registration: int, kind: str) -> None:
        """Let the judge say something of a registration."""
        number = len(self.store.checkpoints("demo", registration)) + 1
        opened = self.store.registrations("demo")[registration - 1]
        self.store.report_evaluator(EvaluatorReport(self.now_us, 1, msgspec.Raw(b"{}")))
        self.store.add_checkpoint(
            checkpoint_of(
                opened, kind, number=number, at_us=self.now_us, reasons=[f"superiority: {kind}"]
            )
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Champion 1; versions 2 and 3 known, loaded and on the shelf."""
    store = store_at(tmp_path)
    store.create(solo(versions=("1",)), actor="setup", reason="", at_us=1)
    made = Desk(store)
    made.report()
    for version in "23":
        made.shelf.files.pop(version)
        file = tmp_path / version
        file.write_bytes(b"a model")
        made.operations.add_version("demo", version, file, intent=made.intent())
    yield made
    store.close()


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


def test_a_promotion_on_stale_evidence_is_refused(desk: Desk) -> None:
    """A verdict whose Evaluator went silent an hour ago may be about other traffic."""
    desk.challenge("2")
    desk.report(epoch=desk.rollout().epoch)
    desk.say(1, "PROMOTE")
    desk.now_us += 3_600_000_000
    with pytest.raises(Refused, match="last reported 3600 s ago"):
        desk.operations.promote("demo", "2", intent=desk.intent())
    desk.operations.promote("demo", "2", intent=desk.intent(), is_forced=True)
