"""The table of phases and commands: every cell, and what each transition leaves behind."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from gateway.core.rollout import (
    COMMANDS,
    PHASES,
    TABLE,
    AddVersion,
    Challenge,
    Command,
    Configure,
    Promote,
    Rollback,
    Shadow,
    Split,
    Withdraw,
    step,
)
from gateway.core.routes import Challenger, EndpointRules, Rollout
from gateway.errors import Refused, UnknownVersion
from tests.rollouts import challenged, facts, solo

ROLLOUTS: dict[str, Callable[[], Rollout]] = {
    "solo": solo,
    "shadow": lambda: challenged(solo(), "2"),
    "live": lambda: step(challenged(solo(), "2"), Split({"1": 9000, "2": 1000})),
}
EXAMPLES: dict[type, Command] = {
    AddVersion: AddVersion(facts("9")),
    Configure: Configure(EndpointRules(maturity_s=7)),
    Challenge: Challenge("3", registration=2, registration_digest="terms-2", probability_bp=5000),
    Withdraw: Withdraw("2"),
    Shadow: Shadow("2", probability_bp=100),
    Split: Split({"1": 5000, "2": 5000}),
    Promote: Promote("2", forced=False),
    Rollback: Rollback(),
}
#: What each cell leads to; None where it is refused. Rollback has no previous champion yet.
EXPECTED: dict[tuple[str, type], str | None] = {
    ("solo", AddVersion): "solo",
    ("solo", Configure): "solo",
    ("solo", Challenge): "shadow",
    ("solo", Withdraw): None,
    ("solo", Shadow): None,
    ("solo", Split): None,
    ("solo", Promote): None,
    ("solo", Rollback): None,
    ("shadow", AddVersion): "shadow",
    ("shadow", Configure): "shadow",
    ("shadow", Challenge): "shadow",
    ("shadow", Withdraw): "solo",
    ("shadow", Shadow): "shadow",
    ("shadow", Split): "live",
    ("shadow", Promote): "solo",
    ("shadow", Rollback): None,
    ("live", AddVersion): "live",
    ("live", Configure): "live",
    ("live", Challenge): "live",
    ("live", Withdraw): "solo",
    ("live", Shadow): "live",
    ("live", Split): "live",
    ("live", Promote): "solo",
    ("live", Rollback): None,
}


def test_the_table_has_a_cell_for_every_phase_and_command() -> None:
    """Nothing is left to chance, in the code or in this test."""
    cells = {(phase, command) for phase in PHASES for command in COMMANDS}
    assert {(phase, command) for phase, row in TABLE.items() for command in row} == cells
    assert set(EXPECTED) == cells
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize(("phase", "command"), EXPECTED)
def test_each_command_leads_where_the_table_says(phase: str, command: type) -> None:
    """One epoch on into the phase expected, or refused."""
    before = ROLLOUTS[phase]()
    expected = EXPECTED[phase, command]
    assert before.phase == phase
    if expected is None:
        with pytest.raises(Refused):
            step(before, EXAMPLES[command])
        return
    after = step(before, EXAMPLES[command])
    assert (after.phase, after.epoch) == (expected, before.epoch + 1)
    assert sum(after.split.values()) == 10_000


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_survives_the_decision_log(command: type) -> None:
    """What is written as JSON is read back as the same command."""
    example = EXAMPLES[command]
    assert msgspec.json.decode(msgspec.json.encode(example), type=Command) == example


def test_a_promotion_crowns_the_challenger_and_closes_the_others() -> None:
    """The new champion takes all traffic; only the newly registered stay in shadow."""
    before = challenged(challenged(solo(), "2"), "3", registration=2)
    stay = Challenger("3", registration=3, registration_digest="terms-3", probability_bp=10_000)
    after = step(before, Promote("2", forced=False, stay=(stay,)))
    assert (after.champion, after.previous, after.split) == ("2", "1", {"2": 10_000})
    assert after.challengers == {"3": stay}


def test_a_rollback_brings_the_previous_champion_back() -> None:
    """Twice is where it began."""
    promoted = step(challenged(solo(), "2"), Promote("2", forced=True))
    back = step(promoted, Rollback())
    assert (back.champion, back.previous, back.phase) == ("1", "2", "solo")
    assert step(back, Rollback()).champion == "2"


def test_a_withdrawn_challenger_gives_its_share_to_the_champion() -> None:
    """No traffic is left without a version."""
    live = step(challenged(solo(), "2"), Split({"1": 8000, "2": 2000}))
    assert step(live, Withdraw("2")).split == {"1": 10_000}


def test_a_salt_is_fresh_for_a_registration_but_never_changed_under_live_units() -> None:
    """Units assigned by a salt stay where they are."""
    first = challenged(solo(), "2")
    assert first.salt == "terms-1"
    live = step(first, Split({"1": 9000, "2": 1000}))
    assert challenged(live, "3", registration=2).salt == "terms-1"


REFUSED: dict[str, tuple[Callable[[], Rollout], Command, type[Exception], str]] = {
    "a version twice": (ROLLOUTS["solo"], AddVersion(facts("2")), Refused, "immutable"),
    "an unknown version": (
        ROLLOUTS["solo"],
        Challenge("7", 1, "terms", 10_000),
        UnknownVersion,
        "has no version 7",
    ),
    "the champion": (ROLLOUTS["solo"], Challenge("1", 1, "terms", 1), Refused, "is the champion"),
    "a challenger again": (
        ROLLOUTS["shadow"],
        Challenge("2", 2, "terms", 1),
        Refused,
        "is a challenger already",
    ),
    "more than everything": (
        ROLLOUTS["solo"],
        Challenge("2", 1, "terms", 10_001),
        Refused,
        "0 to 10000",
    ),
    "a shadow of less than nothing": (ROLLOUTS["shadow"], Shadow("2", -1), Refused, "0 to 10000"),
    "a shadow of no challenger": (ROLLOUTS["shadow"], Shadow("3", 1), Refused, "no challenger"),
    "weights that do not add up": (
        ROLLOUTS["shadow"],
        Split({"1": 9000, "2": 999}),
        Refused,
        "sum to 9999",
    ),
    "a negative weight": (
        ROLLOUTS["shadow"],
        Split({"1": 10_001, "2": -1}),
        Refused,
        "0 to 10000",
    ),
    "answers of no challenger": (
        ROLLOUTS["shadow"],
        Split({"1": 9000, "3": 1000}),
        Refused,
        "is no challenger",
    ),
    "a promotion of no challenger": (
        ROLLOUTS["shadow"],
        Promote("3", forced=True),
        Refused,
        "is no challenger",
    ),
}


@pytest.mark.parametrize("claim", REFUSED)
def test_the_impossible_is_refused_with_its_reason(claim: str) -> None:
    """Each refusal says what is wrong."""
    rollout, command, error, message = REFUSED[claim]
    with pytest.raises(error, match=message):
        step(rollout(), command)
