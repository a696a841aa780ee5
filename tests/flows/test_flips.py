"""Flips under load: nobody is refused, nobody is lied to, and every worker follows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from gateway.core.records import PredictionRecord
from gateway.journal.reader import JournalTail, writer_ids
from tests.flows.endpoints import FLIPS
from tests.load import Load
from tests.serving_process import ServingProcess

Document = dict[str, Any]

ROUNDS = 9


class Flip(msgspec.Struct, frozen=True):
    """One change of roles: its epoch, the workers that followed, and how long that took."""

    epoch: int
    followers: list[str]
    took_s: float


class Flipped:
    """What operators and clients saw of nine rounds of six flips each."""

    def __init__(self, gateway: ServingProcess) -> None:
        self._gateway = gateway
        self.flips: list[Flip] = []
        for version in ("2", "3"):
            gateway.change(FLIPS, "PUT", "challengers", version)
        with Load(gateway.url, FLIPS, number=lambda _: 1.0) as self.load:
            for _ in range(ROUNDS):
                self._round()

    def _round(self) -> None:
        self._flip("PUT", "split", weights_bp={"1": 5000, "2": 2500, "3": 2500})
        self._flip("PUT", "split", weights_bp={"1": 1, "2": 9999})
        self._flip("PUT", "split", weights_bp={"1": 3000, "3": 7000})
        self._flip("POST", "promotions", version="2", force=True, reason="because I say so")
        self._flip("PUT", "split", weights_bp={"2": 5000, "3": 5000})
        self._flip("POST", "rollbacks", reason="back again")
        back = self._gateway.change(FLIPS, "PUT", "challengers", "2")
        self._gateway.followers(FLIPS, back["epoch"])

    def _flip(self, method: str, part: str, **document: object) -> None:
        begun = time.monotonic()
        epoch = self._gateway.change(FLIPS, method, part, **document)["epoch"]
        followers = self._gateway.followers(FLIPS, epoch)
        self.flips.append(Flip(epoch, followers, time.monotonic() - begun))


@pytest.fixture(scope="module")
def flipped(gateway: ServingProcess) -> Iterator[Flipped]:
    """Flipped once, for all claims."""
    yield Flipped(gateway)


def test_no_request_fails_while_roles_change(gateway: ServingProcess, flipped: Flipped) -> None:
    """Fifty flips, four connections without a pause: every answer is 200."""
    assert len(flipped.flips) >= 50 and len(flipped.load.answered) > 500
    assert not flipped.load.refused and not flipped.load.broken


def test_the_reported_version_is_the_one_that_ran(
    gateway: ServingProcess, flipped: Flipped
) -> None:
    """Each version answers its own number, so an answer shows who gave it."""
    lies = [one for one in flipped.load.answered if round(10 * one.score) != int(one.version)]
    assert not lies, lies[:5]
    assert {one.version for one in flipped.load.answered} == {"1", "2", "3"}


def test_every_worker_follows_each_flip(
    gateway: ServingProcess, flipped: Flipped, record_testsuite_property: Callable[[str, str], None]
) -> None:
    """Both workers acknowledge every single one; how fast they are is `make bench`'s to judge."""
    assert len({flip.epoch for flip in flipped.flips}) >= 50
    (workers,) = {frozenset(flip.followers) for flip in flipped.flips}
    assert len(workers) == 2
    took_ms = sorted(round(1000 * flip.took_s) for flip in flipped.flips)
    shown = {"least": took_ms[0], "median": took_ms[len(took_ms) // 2], "most": took_ms[-1]}
    record_testsuite_property("flips followed after ms", json.dumps(shown))


def test_the_journal_agrees_with_every_answer(gateway: ServingProcess, flipped: Flipped) -> None:
    """Each answered prediction is there once, with the version and epoch that it was given by."""
    journalled = predictions(gateway)
    assert len({one.prediction_id for one in journalled}) == len(journalled)
    by_id = {one.prediction_id: one for one in journalled}
    answered = flipped.load.answered
    wrong = [one for one in answered if by_id[one.prediction_id].version != one.version]
    assert not wrong, wrong[:5]


def predictions(gateway: ServingProcess) -> list[PredictionRecord]:
    """The journalled predictions of the flipped endpoint."""
    root = gateway.state / "journal"
    tails = [JournalTail(root / writer_id) for writer_id in writer_ids(root)]
    records = [entry.record for tail in tails for entry in tail.drain()]
    return [one for one in records if isinstance(one, PredictionRecord) and one.endpoint == FLIPS]


def test_flips_leave_a_decision_log_that_verifies(
    gateway: ServingProcess, flipped: Flipped
) -> None:
    """Each flip is a line of it, forced ones are marked, and no hash is wrong."""
    with gateway.client("view") as client:
        document = client.get(f"/v1/endpoints/{FLIPS}/decisions")
    assert document["faults"] == []
    epochs = [one["epoch"] for one in document["decisions"]]
    assert epochs == list(range(1, len(epochs) + 1))
    assert {flip.epoch for flip in flipped.flips} <= set(epochs)
    forced = [
        one["command"]["forced"]
        for one in document["decisions"]
        if one["command"]["type"] == "promote"
    ]
    assert forced == [True] * ROUNDS
