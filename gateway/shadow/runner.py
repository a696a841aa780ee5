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

import msgspec

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
_LOAD_AGAIN_AFTER_S = 5.0
_WALL_FACTOR = 30
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_POLL_MS = 250
_DYING_S = 5.0


class Silence(msgspec.Struct, frozen=True):
    """No answer: the child died, used up its CPU time, or said nothing for too long.

    `cpu_spent` tells the second from the others: that one is certainly the model's doing.
    """

    error: str
    cpu_spent: bool = False


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
        providers: tuple[str, ...] = ("cpu",),
    ) -> None:
        self.facts = facts
        self._command = list(command)
        self._load = LoadModel(facts, root, memory_bytes, providers)
        self._cpu_limit_s = cpu_limit_s
        self._child: _Child | None = None
        self._refusal: BatchFailed | None = None
        self._refused_at = 0.0

    def run(self, inputs: list[TensorRecord]) -> BatchDone | BatchFailed | Silence:
        """One run. After silence the next one begins with a fresh child.

        Raises OSError when no process can be started.
        """
        failure = None if self._child is not None else self._start()
        if failure is not None:
            return failure
        reply = self._ask(RunBatch(inputs), cpu_limit_s=self._cpu_limit_s)
        assert not isinstance(reply, Loaded)
        return reply

    def close(self) -> None:
        """End the child, if there is one."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def _start(self) -> BatchFailed | Silence | None:
        """A child with the model loaded, or why there is none."""
        if self._refusal and time.monotonic() - self._refused_at < _LOAD_AGAIN_AFTER_S:
            return self._refusal  # a file that is gone or broken is not asked for with each row
        self._refusal = None
        self._child = _Child(self._command)
        reply = self._ask(self._load, cpu_limit_s=_LOAD_CPU_S)
        if isinstance(reply, Loaded):
            return None
        self.close()
        if isinstance(reply, BatchFailed):
            self._refusal, self._refused_at = reply, time.monotonic()
            return reply
        assert isinstance(reply, Silence)
        return reply

    def _ask(self, request: Request, *, cpu_limit_s: float) -> Reply | Silence:
        assert self._child is not None
        reply = self._child.ask(request, cpu_limit_s=cpu_limit_s)
        if isinstance(reply, Silence):
            self.close()
            error = f"the process of version {self.facts.version} {reply.error}"
            return msgspec.structs.replace(reply, error=error)
        return reply


class _Child:
    """The process, and one question at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the command is ours, injected at start
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        # A child that does not read must not hold up who writes.
        os.set_blocking(self._requests.fileno(), False)

    def ask(self, request: Request, *, cpu_limit_s: float) -> Reply | Silence:
        """The reply. Limits: CPU seconds of this question, and their wall-clock backstop."""
        try:
            answer = self._exchange(framed(request), cpu_limit_s)
            return answer if isinstance(answer, Silence) else decode_reply.decode(answer)
        except (BrokenPipeError, EOFError):
            return Silence(f"died ({_cause(self._await_death())})")
        except msgspec.DecodeError:
            return Silence("gave bytes that are no answer")

    def end(self) -> None:
        """Kill it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._requests.close()
        self._replies.close()

    def _exchange(self, request: bytes, cpu_limit_s: float) -> bytes | Silence:
        outgoing, incoming = memoryview(request), bytearray()
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        poll.register(self._requests, select.POLLOUT)
        cpu_deadline_s = _cpu_s(self._process.pid) + cpu_limit_s
        wall_s = cpu_limit_s * _WALL_FACTOR
        deadline = time.monotonic() + wall_s
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(_POLL_MS)}
            if self._requests.fileno() in ready:
                outgoing = outgoing[os.write(self._requests.fileno(), outgoing) :]
                if not outgoing:
                    poll.unregister(self._requests)
            if self._replies.fileno() in ready:
                incoming += self._more()
                if _is_whole(incoming):
                    return bytes(incoming[LENGTH.size :])
            if ready:
                continue
            if _cpu_s(self._process.pid) > cpu_deadline_s:
                return Silence(f"used up its CPU time ({cpu_limit_s:g} s)", cpu_spent=True)
            if time.monotonic() > deadline:
                return Silence(f"gave no answer in {wall_s:g} s")

    def _more(self) -> bytes:
        chunk = os.read(self._replies.fileno(), 1 << 20)
        if not chunk:
            raise EOFError
        return chunk

    def _await_death(self) -> int:
        """Its exit status; one that closed its pipes and lives on is killed."""
        try:
            return self._process.wait(_DYING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _is_whole(reply: bytearray) -> bool:
    if len(reply) < LENGTH.size:
        return False
    return len(reply) >= LENGTH.size + int(LENGTH.unpack_from(reply)[0])


def _cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - twice as fast as Path
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"
