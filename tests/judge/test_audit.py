"""What is edited in the control store beside the log is found, and buys no promotion."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from gateway.errors import CorruptStore, Refused
from gateway.judge.audit import closings, registration_faults
from tests.judge.desk import Desk
from tests.rollouts import facts, solo, store_at
from tests.verdicts import checkpoint_of


class Vault(Desk):
    """A desk whose store somebody else can write to."""

    folder: Path

    def edit(self, sql: str, *values: object) -> None:
        """What anybody can do who has the file."""
        with closing(sqlite3.connect(self.folder / "control.sqlite")) as database:
            assert database.execute(sql, values).rowcount == 1
            database.commit()

    def faults(self) -> list[str]:
        """What `audition decisions` finds."""
        found: list[str] = self.operations.decisions("demo")["faults"]
        return found


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """Champion 1, challenger 2 with a PROMOTE, challenger 3 with a WAIT."""
    store = store_at(tmp_path)
    store.create(solo(versions=("1",)), actor="setup", reason="", at_us=1)
    made = Vault(store)
    made.folder = tmp_path
    made.report()
    for version in "23":
        made.shelf.files.pop(version)
        (tmp_path / version).write_bytes(b"a model")
        made.operations.add_version("demo", version, tmp_path / version, intent=made.intent())
        made.challenge(version)
    made.say(1, "PROMOTE")
    made.say(2, "WAIT")
    yield made
    store.close()


def test_what_was_done_by_the_rules_has_no_faults(vault: Vault) -> None:
    """Through promotion, re-registration, rollback and withdrawal."""
    assert vault.faults() == []
    vault.promote("2")
    vault.say(3, "REJECT")
    vault.operations.rollback("demo", intent=vault.intent())
    vault.operations.withdraw("demo", "3", intent=vault.intent())
    assert vault.faults() == []


def test_a_promotion_says_what_it_rested_on(vault: Vault) -> None:
    """Every registration that it closed, with checkpoint, digest, E and n; the others' too."""
    vault.promote("2")
    two, three = closings(vault.store.decisions("demo")[-1])
    assert (two["registration"], two["checkpoint"], two["verdict"], two["n"]) == (
        1, 1, "PROMOTE", 40,
    )  # fmt: skip
    assert two["ln_e"] > 3.5 and len(two["sha256"]) == 64
    assert (three["registration"], three["verdict"]) == (2, "WAIT")


_EDITS = [
    ("UPDATE registrations SET level = 0.9 WHERE number = 1", "its level is another"),
    (
        "UPDATE registrations SET opened_at_us = opened_at_us - 61000000 WHERE number = 1",
        "its opened_at is another",
    ),
    ("UPDATE registrations SET version = '3' WHERE number = 1", "its version is another"),
    ("UPDATE registrations SET opened_epoch = 1 WHERE number = 1", "its opened_epoch is another"),
    ("UPDATE registrations SET digest = 'x' WHERE number = 1", "its digest is another"),
    (
        "UPDATE registrations SET terms = replace(terms, '\"alpha\":0.05', '\"alpha\":0.5') "
        "WHERE number = 1",
        "its terms is another",
    ),
]


@pytest.mark.parametrize(("edit", "fault"), _EDITS)
def test_an_edited_registration_is_found_and_buys_nothing(
    vault: Vault, edit: str, fault: str
) -> None:
    """Level, terms, dates: each follows from the log."""
    vault.now_us += 120_000_000
    vault.say(1, "PROMOTE")
    vault.edit(edit)
    assert any(fault in said for said in vault.faults())
    before = vault.rollout()
    with pytest.raises(Refused, match="tampered with: registration 1"):
        vault.promote("2")
    assert vault.rollout() == before


def test_an_edited_verdict_is_found_and_buys_nothing(vault: Vault) -> None:
    """Its evidence says something else."""
    vault.edit(
        "UPDATE checkpoints SET verdict = replace(verdict, '\"WAIT\"', '\"PROMOTE\"') "
        "WHERE registration = 2"
    )
    (fault,) = vault.faults()
    assert "says PROMOTE with n = 40, and its evidence WAIT" in fault
    with pytest.raises(Refused, match="tampered with: checkpoint 1 of registration 2"):
        vault.promote("3")


def test_evidence_that_a_decision_rested_on_cannot_be_edited(vault: Vault) -> None:
    """Not even with a verdict that follows from it: the line of the log has its digest."""
    vault.promote("2")
    registration = vault.store.registrations("demo")[0]
    forged = checkpoint_of(registration, "REJECT")
    vault.edit(
        "UPDATE checkpoints SET evidence = ?, verdict = ? WHERE registration = 1",
        bytes(forged.evidence).decode(), bytes(forged.verdict).decode(),
    )  # fmt: skip
    epoch = vault.rollout().epoch
    assert vault.faults() == [
        f"checkpoint 1 of registration 1, which epoch {epoch} rests on, was edited"
    ]
    vault.edit("DELETE FROM checkpoints WHERE registration = 1")
    assert vault.faults() == [
        f"checkpoint 1 of registration 1, which epoch {epoch} rests on, is missing"
    ]


def test_a_registration_comes_and_goes_with_the_log_only(vault: Vault) -> None:
    """One that was deleted, and one that no line opened."""
    first, second = vault.store.registrations("demo")
    invented = msgspec.structs.replace(second, number=9)
    assert registration_faults(invented, vault.store.decisions("demo")) == [
        "registration 9 is in no line of the log"
    ]
    vault.edit("DELETE FROM registrations WHERE number = ?", first.number)
    assert vault.faults() == ["registration 1 is missing"]


@pytest.mark.parametrize("command", ["{bad", "5", "null"])
def test_a_command_that_is_no_command_is_a_named_fault(vault: Vault, command: str) -> None:
    """Not an error without a name; what the endpoint serves is not touched by it."""
    vault.edit("UPDATE epochs SET command = ? WHERE epoch = 2", command)
    (fault,) = vault.faults()
    assert "a decision (endpoint demo, epoch 2) that cannot be read" in fault
    with pytest.raises(CorruptStore):
        vault.promote("2")
    assert vault.operations.status("demo")["epoch"] == vault.rollout().epoch
    assert facts("1").version == vault.rollout().champion
