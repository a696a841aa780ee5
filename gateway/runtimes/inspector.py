"""The child process that tries model files: a fork for each, under limits.

Run as `python -m gateway.runtimes.inspector DEADLINE_S FILE...`; prints a line of JSON a file.
Everything is imported before the first fork, and no model is touched but in a fork, so a fork
costs milliseconds, finds no threads to inherit, and takes nothing with it when it is killed.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
from pathlib import Path
from time import monotonic
from typing import NoReturn

import msgspec

from gateway.errors import AuditionError
from gateway.runtimes.inspection import Report
from gateway.runtimes.trial import MEMORY_BYTES, try_file

_PR_SET_PDEATHSIG = 1
_TOO_MUCH = "out of memory or time"


def main(deadline_s: float, paths: list[Path]) -> None:
    """Try each file, one after the other."""
    for path in paths:
        report = _tried_in_fork(path, deadline_s)
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()


def _tried_in_fork(path: Path, deadline_s: float) -> Report:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _be_the_fork(path, write_end, deadline_s)
    os.close(write_end)
    said = _read_until(read_end, monotonic() + deadline_s)
    os.close(read_end)
    if said is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if said is None:
        return Report(refused=f"loading and one trial run took longer than {deadline_s:g} s")
    if said:
        return msgspec.json.decode(said, type=Report)
    ended = f"signal {os.WTERMSIG(status)} ({_TOO_MUCH})" if os.WIFSIGNALED(status) else "itself"
    return Report(refused=f"the trial run was ended by {ended}")


def _read_until(descriptor: int, deadline: float) -> bytes | None:
    """Everything up to the end of the pipe; None if that does not come in time."""
    chunks: list[bytes] = []
    while select.select([descriptor], [], [], max(0.0, deadline - monotonic()))[0]:
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
    return None


def _be_the_fork(path: Path, write_end: int, deadline_s: float) -> NoReturn:
    os.dup2(2, 1)  # whatever a library prints must not end up between two reports
    try:
        _limit(deadline_s)
        said = msgspec.json.encode(_report(path))
        # One write is too small for a long report when the reader is slow.
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(said)
    finally:
        # Nothing of the parent's is to be flushed or run at exit a second time.
        os._exit(0)


def _report(path: Path) -> Report:
    try:
        return Report(found=try_file(path))
    except AuditionError as error:
        return Report(refused=str(error))
    except Exception as error:  # whatever it was, the file made it happen
        return Report(refused=f"the trial run failed: {type(error).__name__} {error}"[:300])


def _limit(deadline_s: float) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    cpu_s = int(deadline_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(float(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
