"""Help, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.server import TERMINAL, Run
from tests.serving_process import PATIENCE_S

COMMANDS = [
    (),
    ("serve",),
    ("demo",),
    ("status",),
    ("split",),
    ("shadow",),
    ("challenge",),
    ("withdraw",),
    ("promote",),
    ("rollback",),
    ("evidence",),
    ("decisions",),
    ("export",),
    ("models", "add"),
    ("models", "list"),
    ("models", "inspect"),
    ("labels", "import"),
    ("keys", "create"),
    ("keys", "list"),
    ("journal", "stats"),
    ("journal", "verify"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_with_an_example(audition: Run, command: tuple[str, ...]) -> None:
    """The example can be copied; nothing is coloured off a terminal."""
    ended = audition(*command, "--help")
    assert ended.code == 0 and TERMINAL not in ended.out
    words = " ".join(ended.out.split())
    usage = f"audition {' '.join(command)}".strip()
    assert words.count(usage) >= 2  # the usage line, and an example that can be copied


def test_help_loads_neither_server_nor_client() -> None:
    """Help is shown before a human notices: the heavy imports wait for their command."""
    script = (
        "import sys\nfrom gateway.cli import main\nsys.argv = ['audition', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'httpx', 'bentoml', 'onnxruntime', 'sqlalchemy', 'duckdb', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.stderr.strip() == "[]"
