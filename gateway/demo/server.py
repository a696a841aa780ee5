"""A gateway of the demo's own: a real server process on loopback, with keys made for it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from gateway.client import Client
from gateway.core.access import token_of
from gateway.errors import Refused, Unreachable

_READY_WITHIN_S = 180.0
_STOP_WITHIN_S = 30.0


class DemoServer(msgspec.Struct):
    """A running gateway and what is needed to speak to it."""

    url: str
    admin_key: str
    label_key: str
    state: Path
    log: Path
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """Ask it to end, and insist after a while."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(*, folder: Path, models: Path, workers: int = 2) -> DemoServer:
    """Start `audition serve` below `folder` and wait until it is ready.

    Raises Unreachable, with the end of its log, if it is not.
    """
    url = f"http://127.0.0.1:{_free_port()}"
    admin_key = token_of("admin", secrets.token_urlsafe(32))
    log = folder / "gateway.log"
    command = [sys.executable, "-m", "gateway.cli", "serve", "--port", url.rpartition(":")[2]]
    command += ["--workers", str(workers)]
    environment = {
        **os.environ,
        "AUDITION_STATE": str(folder / "state"),
        "AUDITION_MODELS": str(models),
        "AUDITION_ADMIN_KEY": admin_key,
        # Whoever watches the story is waiting for its verdicts, on a busy machine too.
        "AUDITION_EVALUATOR_PRIORITY": "normal",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # so that `--keep` survives the terminal's Ctrl-C
        )
    server = DemoServer(url, admin_key, "", folder / "state", log, process)
    try:
        server.label_key = _await_ready(server)
    except BaseException:
        server.stop()
        raise
    return server


def _await_ready(server: DemoServer) -> str:
    """The label key, made as soon as the operators' API answers."""
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            with Client(server.url, key=server.admin_key) as client:
                client.get("/readyz")
                made = client.post("/v1/keys", {"name": "demo-labels", "role": "label"})
                return str(made["token"])
        except (Unreachable, Refused):
            time.sleep(0.1)
    tail = server.log.read_text(errors="replace")[-2000:]
    raise Unreachable(f"the gateway did not become ready; the end of its log:\n{tail}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
