"""Running the blocks of a page: in a folder of its own, against the server that it starts.

Blocks marked `test` run as they stand in one shell, in order; `exit=1` says that a block must be
refused. The block marked `server` starts the gateway; only the port is appended to it. Address
and key reach the blocks behind it by AUDITION_URL and AUDITION_KEY.
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

from tests.docs.pages import Block, blocks
from tests.serving_process import PATIENCE_S, free_port

_KEY = re.compile(r"shown this once: (\S+)")


def environment() -> dict[str, str]:
    """That of a shell in which the command is installed, and no gateway known."""
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
def gateway(command: str, folder: Path) -> Iterator[dict[str, str]]:
    """The server of a page; what it yields is the environment of who speaks to it."""
    port, log = free_port(), folder / "gateway.log"
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command.strip()} --port {port}"],
            cwd=folder,
            env={**environment(), "AUDITION_GRPC_PORT": "0"},
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
        yield {**environment(), "AUDITION_URL": url, "AUDITION_KEY": key[1]}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def halves(page: Path) -> tuple[str, str, str]:
    """The scripts of a page before its server and after it, and the server's command."""
    found = blocks(page)
    (server,) = [block for block in found if "server" in block.words]
    marked = [block for block in found if "test" in block.words]
    before = [as_shell(page, block) for block in marked if block.line < server.line]
    after = [as_shell(page, block) for block in marked if block.line > server.line]
    return "".join(before), "".join(after), server.text


def as_shell(page: Path, block: Block) -> str:
    """The block as a part of a script that says where it stands in the page."""
    begin = f"echo '== {page.name}:{block.line}' >&2\n"
    if block.language == "python":
        return f"{begin}python - <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK\n"
    if "exit=1" in block.words:
        return f"{begin}code=0; ( {block.text} ) || code=$?; test $code = 1\n"
    return begin + block.text


def run(script: str, folder: Path, env: dict[str, str]) -> str:
    """What the script says; it must end well."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
