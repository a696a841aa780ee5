"""The README is run: its server is started and its blocks are executed in order.

Blocks marked `test` run as they stand in one shell, in a folder of their own; `exit=1` says
that a block must be refused. The block marked `server` starts the gateway; only the port is
appended to it. Address and key reach the blocks by AUDITION_URL and AUDITION_KEY.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, blocks
from tests.serving_process import PATIENCE_S, free_port

README = ROOT / "README.md"
_KEY = re.compile(r"shown this once: (\S+)")


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("AUDITION_")}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
        "AUDITION_EVALUATOR_PRIORITY": "normal",  # a busy machine has no time for an idle one
    }


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=30) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def _gateway(command: str, folder: Path) -> Iterator[dict[str, str]]:
    """The server of the README; what it yields is the environment of who speaks to it."""
    port, log = free_port(), folder / "gateway.log"
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command.strip()} --port {port}"],
            cwd=folder,
            env={**_environment(), "AUDITION_GRPC_PORT": "0"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _is_ready(url):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        key = _KEY.search(log.read_text())
        assert key is not None, log.read_text()
        yield {**_environment(), "AUDITION_URL": url, "AUDITION_KEY": key[1]}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def _as_shell(block: Block) -> str:
    begin = f"echo '== {README.name}:{block.line}' >&2\n"
    if block.language == "python":
        return f"{begin}python - <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK\n"
    if "exit=1" in block.words:
        return f"{begin}code=0; ( {block.text} ) || code=$?; test $code = 1\n"
    return begin + block.text


def _run(script: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(900)
def test_the_readme_does_what_it_says(tmp_path: Path) -> None:
    """Every marked block runs, in order, against the server that the README starts."""
    found = blocks(README)
    (server,) = [block for block in found if "server" in block.words]
    marked = [block for block in found if "test" in block.words]
    before = [block for block in marked if block.line < server.line]
    after = [block for block in marked if block.line > server.line]
    _run("".join(map(_as_shell, before)), tmp_path, _environment())
    with _gateway(server.text, tmp_path) as environment:
        said = _run("".join(map(_as_shell, after)), tmp_path, environment)
    assert "promote 2" in said
    assert len(marked) >= 8, "the README lost examples"
