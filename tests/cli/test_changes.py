"""The command line against a real server: what it sends, shows and exits with."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.local import is_loopback
from tests.cli.server import WORKER, Gateway, Run, judge


def test_the_whole_story_by_command_line(here: Run, gateway: Gateway) -> None:
    """Challenge, shadow, split, promotion and rollback, each exits 0 and is done."""
    first = here("challenge", "demo", "2", "--sample", "50%", "--reason", "trees")
    assert first.code == 0, first.err
    assert "registration 1: version 2 must reach E ≥ 32.9" in first.out
    assert gateway.rollout().challengers["2"].probability_bp == 5000
    assert here("shadow", "demo", "2", "--sample", "12.5%").code == 0
    assert gateway.rollout().challengers["2"].probability_bp == 1250
    assert here("shadow", "demo", "2", "--off").code == 0
    assert gateway.rollout().challengers["2"].probability_bp == 0
    assert here("split", "demo", "--percent", "1=90", "2=10").code == 0
    assert gateway.rollout().split == {"1": 9000, "2": 1000}
    assert here("split", "demo", "1=9999", "2=1").code == 0
    assert gateway.rollout().split == {"1": 9999, "2": 1}
    judge(gateway, "PROMOTE")
    assert here("promote", "demo", "2").code == 0
    assert here("rollback", "demo", "--reason", "slow").code == 0
    assert here("challenge", "demo", "3").code == 0
    assert here("withdraw", "demo", "3", "--reason", "no").code == 0
    log = here("decisions", "demo")
    assert log.code == 0
    for words in (
        "promote 2",
        "[1/1: PROMOTE, E = 148, n = 40]",
        "rollback",
        "split 1=99.99% 2=0.01%",
        "key-admin",
        "slow",
        "trees",
    ):
        assert words in log.out


def test_a_refusal_exits_1_with_its_reason(here: Run, gateway: Gateway) -> None:
    """On standard error, and nothing on standard output."""
    here("challenge", "demo", "2")
    ended = here("promote", "demo", "2")
    assert (ended.code, ended.out) == (1, "")
    assert "verdict on registration 1 is nothing yet" in ended.err
    assert gateway.rollout().champion == "1"
    assert "no endpoint other" in here("status", "other").err


def test_force_promotes_with_a_reason_only(here: Run, gateway: Gateway) -> None:
    """Without one it is a mistake of usage; a rollback likewise."""
    here("challenge", "demo", "2")
    assert here("promote", "demo", "2", "--force").code == 2
    assert here("rollback", "demo").code == 2
    assert here("promote", "demo", "2", "--force", "--reason", "a drill").code == 0
    assert gateway.rollout().champion == "2"


def test_an_expected_epoch_is_kept_to(here: Run, gateway: Gateway) -> None:
    """Who decided on another epoch is told the one there is."""
    ended = here("challenge", "demo", "2", "--expected-epoch", "7")
    assert ended.code == 1 and "is at epoch 1, not 7" in ended.err
    assert here("challenge", "demo", "2", "--expected-epoch", "1").code == 0


def test_a_laggard_is_named_on_standard_error(here: Run, gateway: Gateway) -> None:
    """The change is committed all the same."""
    gateway.live = {WORKER, "b" * 12}
    ended = here("challenge", "demo", "2", "--json")
    assert ended.code == 0 and ended.json()["lagging"] == ["b" * 12]
    assert "not served yet by worker " + "b" * 12 in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("split", "demo", "1=9000"),
        ("split", "demo", "1:9000", "2:1000"),
        ("split", "demo", "=10000"),
        ("split", "demo", "1=5000", "1=5000"),
        ("split", "demo", "1=nan", "2=1000"),
        ("split", "demo", "--percent", "1=99.999", "2=0.001"),
        ("split", "demo", "1=-1", "2=10001"),
        ("split", "demo"),
        ("shadow", "demo", "2"),
        ("shadow", "demo", "2", "--sample", "5%", "--off"),
        ("shadow", "demo", "2", "--sample", "101%"),
        ("keys", "create", "x", "--role", "root"),
        ("export", "demo", "--format", "xml", "--output", "x"),
        ("labels", "import", "no-such-file"),
        ("journal", "stats", "--state", "no-such-folder"),
        ("nonsense",),
        ("status", "--nonsense"),
    ],
)
def test_a_command_that_makes_no_sense_exits_2(audition: Run, arguments: tuple[str, ...]) -> None:
    """Before anything is sent: there is no gateway to ask."""
    ended = audition(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Error" in ended.err


def test_no_gateway_is_said_with_what_to_do(audition: Run) -> None:
    """Exit code 1 and the address that was tried."""
    ended = audition("--url", "http://127.0.0.1:9", "status")
    assert ended.code == 1
    assert "http://127.0.0.1:9" in ended.err and "AUDITION_URL" in ended.err
    assert audition("--url", "nonsense", "status").code == 1


def test_a_key_that_is_missing_or_too_small_is_said(here: Run, gateway: Gateway) -> None:
    """401 says how to set one, 403 which role is needed."""
    missing = here("--key", "", "status")
    assert missing.code == 1 and "AUDITION_KEY" in missing.err
    small = here("--key", gateway.tokens["view"], "challenge", "demo", "2")
    assert small.code == 1 and "use a key of role operate" in small.err
    assert here("--key", gateway.tokens["view"], "status").code == 0


def test_a_model_file_is_added(here: Run, gateway: Gateway, tmp_path: Path) -> None:
    """It is listed afterwards, idle."""
    del gateway.shelf.files["2"]
    file = tmp_path / "model.onnx"
    file.write_bytes(b"x" * 3_000_000)
    assert here("models", "add", "demo", str(file), "--version", "2").code == 0
    listed = here("models", "list", "demo").out
    assert "champion" in listed and "not added" in listed
    again = here("models", "add", "demo", str(file), "--version", "2")
    assert again.code == 1 and "immutable" in again.err


def test_a_key_is_printed_alone_and_works(here: Run, gateway: Gateway) -> None:
    """`AUDITION_KEY=$(audition keys create …)` must be enough."""
    ended = here("keys", "create", "viewer", "--role", "view", "--endpoint", "demo")
    assert ended.code == 0
    assert "only time" in ended.err
    assert here("--key", ended.out.strip(), "status", "demo").code == 0
    listed = here("keys", "list").out
    assert "viewer" in listed and "demo" in listed and ended.out.strip() not in listed


def test_only_this_machine_counts_as_loopback() -> None:
    """Anything else is warned of at the start."""
    hosts = ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "::", "10.1.1.1", "db")
    assert [is_loopback(host) for host in hosts] == [True] * 4 + [False] * 4
