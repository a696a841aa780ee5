"""The parent's side of a runner: start it, hand it batches, and end it when it must end.

Rules: a starved machine is no failure of a model. The limit is CPU time of the child, and a
wall-clock backstop only stops the waiting; whoever calls decides what silence means.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Sequence

from gateway.core.records import TensorRecord
from gateway.core.routes import VersionFacts
from gateway.runtimes.messages import (
    LENGTH,
    BatchDone,
    BatchFailed,
    Loaded,
    LoadModel,
    Reply,
    Request,
    RunBatch,
    decode_reply,
    framed,
)

_LOAD_CPU_S = 60.0
_WALL_FACTOR = 30
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_POLL_S = 0.25


class RunnerSilent(Exception):
    """The child died, used up its CPU time, or said nothing for too long.

    `cpu_spent` tells the second from the others: that one is certainly the model's doing.
    """

    def __init__(self, message: str, *, cpu_spent: bool) -> None:
        super().__init__(message)
        self.cpu_spent = cpu_spent


class Runner:
    """One child process holding one model; started at its first batch, and again after an end."""

    def __init__(
        self,
        facts: VersionFacts,
        *,
        command: Sequence[str],
        root: str,
        memory_bytes: int,
        cpu_limit_s: float,
    ) -> None:
        self.facts = facts
        self._command = list(command)
        self._load = LoadModel(facts, root, memory_bytes)
        self._cpu_limit_s = cpu_limit_s
        self._child: subprocess.Popen[bytes] | None = None
        self._buffer = bytearray()

    def run(self, inputs: list[TensorRecord]) -> BatchDone | BatchFailed:
        """One run. Raises RunnerSilent, and then the next call begins with a fresh child."""
        if self._child is None:
            reply = self._start()
            if isinstance(reply, BatchFailed):
                return reply
        reply = self._ask(RunBatch(inputs), cpu_limit_s=self._cpu_limit_s)
        assert isinstance(reply, BatchDone | BatchFailed)
        return reply

    def close(self) -> None:
        """End the child, if there is one."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()

    def _start(self) -> Reply:
        self._buffer = bytearray()
        self._child = subprocess.Popen(  # noqa: S603 - the command is ours, injected at start
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        reply = self._ask(self._load, cpu_limit_s=_LOAD_CPU_S)
        if not isinstance(reply, Loaded):
            self.close()
        return reply

    def _ask(self, request: Request, *, cpu_limit_s: float) -> Reply:
        child = self._child
        assert child is not None and child.stdin is not None
        try:
            before_s = _cpu_s(child.pid)
            _write_all(child.stdin.fileno(), framed(request))
            return self._await_reply(child, before_s + cpu_limit_s, cpu_limit_s * _WALL_FACTOR)
        except (BrokenPipeError, EOFError, FileNotFoundError):
            code = child.wait()
            self.close()
            raise RunnerSilent(
                f"the process of version {self.facts.version} died ({_cause(code)})",
                cpu_spent=False,
            ) from None
        except RunnerSilent:
            self.close()
            raise

    def _await_reply(
        self, child: subprocess.Popen[bytes], cpu_deadline_s: float, wall_s: float
    ) -> Reply:
        assert child.stdout is not None
        descriptor = child.stdout.fileno()
        deadline = time.monotonic() + wall_s
        while True:
            ready, _, _ = select.select([descriptor], [], [], _POLL_S)
            if ready:
                chunk = os.read(descriptor, 1 << 20)
                if not chunk:
                    raise EOFError
                self._buffer += chunk
                if (reply := self._take_reply()) is not None:
                    return reply
            elif _cpu_s(child.pid) > cpu_deadline_s:
                raise RunnerSilent(
                    f"version {self.facts.version} used up its CPU time", cpu_spent=True
                )
            elif time.monotonic() > deadline:
                raise RunnerSilent(
                    f"version {self.facts.version} gave no answer in {wall_s:g} s",
                    cpu_spent=False,
                )

    def _take_reply(self) -> Reply | None:
        if len(self._buffer) < LENGTH.size:
            return None
        end = LENGTH.size + LENGTH.unpack_from(self._buffer)[0]
        if len(self._buffer) < end:
            return None
        reply = decode_reply.decode(self._buffer[LENGTH.size : end])
        del self._buffer[:end]
        return reply


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _cpu_s(pid: int) -> float:
    """CPU seconds that a process has used. Raises FileNotFoundError when it is gone."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - twice as fast as Path
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"
