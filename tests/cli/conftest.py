"""The command, with and without a gateway in its environment."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import main
from tests.cli.server import Ended, Gateway, Run


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that answers."""
    made = Gateway(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def audition(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command without a gateway in its environment."""
    for name in ("AUDITION_URL", "AUDITION_KEY", "AUDITION_STATE"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["audition", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture
def here(audition: Run, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command with the gateway's address and an admin key in its environment."""
    monkeypatch.setenv("AUDITION_URL", f"http://127.0.0.1:{gateway.port}")
    monkeypatch.setenv("AUDITION_KEY", gateway.tokens["admin"])
    return audition
