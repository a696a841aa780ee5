"""Servers as processes: start, wait until ready, read what they used from /proc, stop.

Linux only. CPU times have the kernel's resolution of 10 ms, so a round must last far longer.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
_TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")
_START_LIMIT_S = 180.0
_STOP_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server that is measured: how it is started and what is sent to it.

    `command` has `{port}` in it. `worker` marks the command line of its worker process, empty
    where the process that is started serves itself; `beside` that of what runs beside it.
    `load` is the module that sends `bodies` to `path`.
    """

    name: str
    command: tuple[str, ...]
    path: str
    bodies: Path
    ready_path: str
    worker: str = ""
    beside: str = ""
    load: str = "loadtests.bench_load"
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Running:
    """A started server; `ready_s` from the start of the process to its first readiness."""

    target: Target
    port: int
    pid: int
    ready_s: float

    def worker_pid(self) -> int:
        """The process that answers."""
        if not self.target.worker:
            return self.pid
        (found,) = [p for p in tree(self.pid) if self.target.worker in _command_line(p)]
        return found

    def worker_cpu_us(self) -> float:
        """CPU that the worker has used so far."""
        return cpu_us(self.worker_pid())

    def beside_cpu_us(self) -> float:
        """CPU that the processes beside the worker have used so far, their children included."""
        if not self.target.beside:
            return 0.0
        roots = [p for p in tree(self.pid) if self.target.beside in _command_line(p)]
        return sum(cpu_us(p, reaped=p in roots) for root in roots for p in tree(root))

    def whole_cpu_us(self) -> float:
        """CPU that every process of the server has used so far."""
        return sum(cpu_us(p, reaped=True) for p in tree(self.pid))

    def whole_pss_mb(self) -> float:
        """Memory of every process of the server, MB of 10^6 bytes; a page that several share
        counts in parts."""
        return sum(_pss_mb(p) for p in tree(self.pid))

    def worker_rss_mb(self) -> float:
        """Resident memory of the worker, MB of 10^6 bytes."""
        pages = int(Path(f"/proc/{self.worker_pid()}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def running(target: Target, *, log: Path) -> Iterator[Running]:
    """The server for as long as the block lasts; its output goes to `log`."""
    port = free_port()
    with log.open("wb") as output:
        begun = time.monotonic()
        process = subprocess.Popen(
            [part.format(port=port) for part in target.command],
            cwd=ROOT,
            env={**os.environ, **target.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_ready(target.name, process, f"http://127.0.0.1:{port}{target.ready_path}", log)
        yield Running(target, port, process.pid, time.monotonic() - begun)
    finally:
        _stop(process)


def python(*arguments: str) -> tuple[str, ...]:
    """A command of this interpreter."""
    return (sys.executable, *arguments)


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for parent in found:
        found.extend(_children(parent))
    return found


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def cpu_us(pid: int, *, reaped: bool = False) -> float:
    """utime + stime of a process; with `reaped`, also of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11 : 15 if reaped else 13])) * _TICK_US


def _pss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait_ready(name: str, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{name} did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.01)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    members = tree(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for member in members:
        # Only what still belongs to this server: ids are used again.
        with suppress(ProcessLookupError):
            if os.getsid(member) == process.pid:
                os.kill(member, signal.SIGKILL)
