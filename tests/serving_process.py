"""A gateway as its users have it: `audition serve` in a process of its own, on loopback.

Rules: each server has a state folder, a port and keys of its own, and ends with its test. Only
processes that were started here are ever ended. What is awaited is polled for, with a deadline.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
from tritonclient.http import InferenceServerClient

from gateway.client import Client, endpoint_path
from gateway.core.access import token_of
from gateway.errors import Refused, Unreachable

Document = dict[str, Any]
_T = TypeVar("_T")

#: How long anything is waited for that should come at once: a machine may be very busy.
PATIENCE_S = 150.0
_STOP_WITHIN_S = 60.0
#: Below the ports that a kernel gives to outgoing connections, which come and go all the time.
_PORTS = range(20_000, 32_000)
_SHOWN_LOG_CHARACTERS = 6000
#: What the surroundings may set and a test must not see.
_OURS = ("AUDITION_", "OTEL_", "BENTOML_")


class ServingProcess:
    """A running gateway and what is needed to speak to it."""

    def __init__(self, folder: Path, command: list[str], *, port: int, env: Mapping[str, str]):
        """Start `command`, whose log goes below `folder`; see `start_server`."""
        self.url = f"http://127.0.0.1:{port}"
        self.state = folder / "state"
        self.log_file = folder / "gateway.log"
        self.admin_key = env["AUDITION_ADMIN_KEY"]
        # A killed worker leaves its own behind; and a socket's path, which lies here, is short.
        self._temporary = tempfile.mkdtemp(prefix="audition-test-")
        with self.log_file.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment({**env, "TMPDIR": self._temporary}),
            )
        self.keys: dict[str, str] = {"admin": self.admin_key}
        self._operator = Client(self.url, key=self.admin_key)

    def await_ready(self, *, within_s: float = PATIENCE_S) -> None:
        """Return once a worker answers, with a key of every other role made."""

        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the gateway ended at its start:\n{self.log()}")
            try:
                return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        eventually(ready, within_s=within_s)
        for role in ("infer", "label", "view", "operate"):
            made = self._operator.post("/v1/keys", {"name": f"test-{role}", "role": role})
            self.keys[role] = str(made["token"])

    def log(self) -> str:
        """The end of what its processes wrote."""
        return self.log_file.read_text(errors="replace")[-_SHOWN_LOG_CHARACTERS:]

    def client(self, role: str = "admin") -> Client:
        """The operators' client, with the key of a role."""
        return Client(self.url, key=self.keys[role])

    def http(self, role: str | None = None) -> httpx.Client:
        """Plain HTTP, with the key of a role or none."""
        headers = {} if role is None else self.authorization(role)
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=PATIENCE_S)

    def authorization(self, role: str) -> dict[str, str]:
        """The header that the key of a role is sent in."""
        return {"Authorization": f"Bearer {self.keys[role]}"}

    def triton(self) -> InferenceServerClient:
        """The public client of the protocol."""
        return InferenceServerClient(self.url.removeprefix("http://"), concurrency=2)

    def cli(self, *arguments: str, role: str = "admin") -> subprocess.CompletedProcess[str]:
        """Run the `audition` command against this gateway."""
        given = {"AUDITION_URL": self.url, "AUDITION_KEY": self.keys[role]}
        return subprocess.run(
            [sys.executable, "-m", "gateway.cli", *arguments],
            env=environment({**given, "AUDITION_STATE": str(self.state)}),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def status(self, endpoint: str) -> Document:
        """What the operators' API says of an endpoint."""
        return self._operator.get(endpoint_path(endpoint))

    def change(self, endpoint: str, method: str, *parts: str, **document: Any) -> Document:
        """Change an endpoint at whatever epoch it is."""
        epoch = int(self.status(endpoint)["epoch"])
        path = endpoint_path(endpoint, *parts)
        return self._operator.change(method, path, epoch=epoch, document=document)

    def followers(self, endpoint: str, epoch: int) -> list[str]:
        """The workers, once all that live serve by this epoch or a later one."""

        def read() -> list[str] | None:
            workers = self.status(endpoint)["workers"]
            following = [one["writer_id"] for one in workers if one.get("epoch", 0) >= epoch]
            return following if len(following) == len(workers) else None

        return eventually(read)

    def caught_up(self, endpoint: str) -> Document:
        """The status once shadow, archive and judge have seen all that was sent before."""
        asked_at = time.time()

        def read() -> Document | None:
            status = self.status(endpoint)
            evaluator = status["evaluator"]
            if evaluator is None or time.time() - evaluator["age_s"] <= asked_at:
                return None
            return status if evaluator["caught_up"] else None

        # Challengers that hang and crash are work for the whole machine, which others want too.
        return eventually(read, within_s=3 * PATIENCE_S)

    def descendants(self) -> list[psutil.Process]:
        """Every process of this gateway but the first."""
        try:
            return list(psutil.Process(self.process.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return []

    def evaluator(self) -> psutil.Process:
        """The process of the Evaluator."""
        (found,) = [one for one in self.descendants() if "Evaluator" in one.cmdline()]
        return found

    def stop(self) -> None:
        """End it as its operators would, and insist after a while."""
        self._operator.__exit__(None, None, None)
        family = self.descendants()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for orphan in psutil.wait_procs(family, timeout=5)[1]:
            orphan.kill()
        shutil.rmtree(self._temporary, ignore_errors=True)


def start_server(
    folder: Path,
    models: Path,
    *,
    workers: int = 2,
    arguments: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    within_s: float = PATIENCE_S,
) -> ServingProcess:
    """Start `audition serve` with its state below `folder` and wait until it is ready."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "gateway.cli", "serve", "--port", str(port)]
    command += ["--workers", str(workers), *arguments]
    given = {
        "AUDITION_STATE": str(folder / "state"),
        "AUDITION_MODELS": str(models),
        "AUDITION_ADMIN_KEY": new_admin_key(),
        # On a machine whose processors others want all the time, an idle one would never run.
        "AUDITION_EVALUATOR_PRIORITY": "normal",
        "AUDITION_GRPC_PORT": "0",
        **(env or {}),
    }
    server = ServingProcess(folder, command, port=port, env=given)
    return started(server, within_s=within_s)


def started(server: ServingProcess, *, within_s: float = PATIENCE_S) -> ServingProcess:
    """The server once it is ready; one that never is is ended and says its log."""
    try:
        server.await_ready(within_s=within_s)
    except (AssertionError, Refused, Unreachable) as error:
        server.stop()
        raise AssertionError(f"the gateway is not ready: {error}\n{server.log()}") from error
    except BaseException:
        server.stop()
        raise
    return server


def new_admin_key() -> str:
    """A key that nobody else has."""
    return token_of("admin", secrets.token_urlsafe(32))


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The surroundings without any setting of a gateway, and then what is given."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {**plain, **given}


def eventually(read: Callable[[], _T | None], *, within_s: float = PATIENCE_S) -> _T:
    """The first true thing that `read` returns; fails after the deadline."""
    deadline = time.monotonic() + within_s
    while not (found := read()):
        assert time.monotonic() < deadline, f"never came true within {within_s:g} s; last: {found}"
        time.sleep(0.05)
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def lines(*documents: Document) -> bytes:
    """NDJSON."""
    return b"\n".join(json.dumps(document).encode() for document in documents)
