"""Acting on verdicts: only where the endpoint says so, and by the operators' own use cases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from gateway.core.rollout import Configure, step
from gateway.judge.controller import ACTOR, act
from tests.judge.desk import WORKER, Desk
from tests.rollouts import solo, store_at


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk whose version 2 is challenger under a registration."""
    store = store_at(tmp_path)
    store.create(solo(versions=("1",)), actor="ada", reason="test", at_us=1)
    desk = Desk(store)
    desk.report()
    desk.challenge("2")
    yield desk
    store.close()


def approve(desk: Desk, approval: Literal["manual", "automatic"]) -> None:
    """Let the endpoint file say who approves."""
    rollout = desk.rollout()
    policy = msgspec.structs.replace(rollout.rules.policy, approval=approval)
    command = Configure(msgspec.structs.replace(rollout.rules, policy=policy))
    desk.store.commit(
        step(rollout, command), command=command, actor="ada", reason="test", at_us=desk.now_us
    )


def acted(desk: Desk, kind: str) -> str:
    """Let the judge say `kind`, and the controller act on it."""
    desk.say(1, kind)
    desk.report(epoch=desk.rollout().epoch)
    registration = desk.store.registrations("demo")[0]
    checkpoint = desk.store.checkpoints("demo", 1, latest_only=True)[0]
    return act(desk.operations, desk.rollout(), registration, checkpoint)


def test_a_verdict_promotes_by_itself_where_the_endpoint_approves(desk: Desk) -> None:
    """The judge is the actor, and its reasons are the reason."""
    approve(desk, "automatic")
    assert acted(desk, "PROMOTE") == ""
    assert desk.rollout().champion == "2"
    last = desk.store.decisions("demo")[-1]
    assert (last.actor, last.reason) == (ACTOR, "PROMOTE: superiority: PROMOTE")


def test_harm_withdraws_by_itself_where_the_endpoint_approves(desk: Desk) -> None:
    """A challenger that was shown to be harmful leaves shadow and split."""
    approve(desk, "automatic")
    assert acted(desk, "REJECT") == ""
    assert desk.rollout().challengers == {}
    assert desk.rollout().champion == "1"


@pytest.mark.parametrize("kind", ["WAIT", "INCONCLUSIVE"])
def test_other_verdicts_change_nothing(desk: Desk, kind: str) -> None:
    """Missing evidence only ever means WAIT."""
    approve(desk, "automatic")
    before = desk.rollout()
    assert acted(desk, kind) == ""
    assert desk.rollout() == before


@pytest.mark.parametrize("kind", ["PROMOTE", "REJECT"])
def test_nothing_happens_where_a_person_approves(desk: Desk, kind: str) -> None:
    """The default: the verdict is shown, and somebody decides."""
    before = desk.rollout()
    assert acted(desk, kind) == ""
    assert desk.rollout() == before


def test_what_is_refused_is_said_and_asked_for_again(desk: Desk) -> None:
    """A worker that has not loaded the version holds the promotion up; nothing is half done."""
    approve(desk, "automatic")
    desk.say(1, "PROMOTE")
    desk.report(loaded="1", epoch=desk.rollout().epoch)
    registration = desk.store.registrations("demo")[0]
    checkpoint = desk.store.checkpoints("demo", 1, latest_only=True)[0]
    said = act(desk.operations, desk.rollout(), registration, checkpoint)
    assert "PROMOTE was not carried out" in said
    assert WORKER in said
    assert desk.rollout().champion == "1"
    assert acted(desk, "PROMOTE") == ""
    assert desk.rollout().champion == "2"
