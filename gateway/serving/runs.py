"""Where a run happens: on the event loop if it is predicted to be short, else in a thread.

A thread hop costs more than most small models do, and a long run on the loop would hold up
every other request; so the predicted cost decides. Only threaded runs can time out.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
from onnxruntime import RunOptions

from gateway.errors import ModelTimedOut, Overloaded
from gateway.runtimes.onnx import INLINE_BUDGET_US, Arrays
from gateway.serving.routes import ServedVersion

#: Wall time is looked at first because it is free; a machine that is busy elsewhere is no
#: fault of the model, so the CPU time of the runs that follow decides. Twice the budget,
#: because predictions are rough and a run within them must not demote a model.
_OVERRUN_US = 2 * INLINE_BUDGET_US
_OVERRUNS_UNTIL_THREADED = 2


class Timed(msgspec.Struct, gc=False):
    """The outputs of a run, how long it took and how long it had waited before."""

    outputs: Arrays
    run_us: int
    queue_us: int


class _Watched:
    """How many inline runs of one model file in a row took too much CPU time."""

    __slots__ = ("overruns", "suspect")

    def __init__(self) -> None:
        self.overruns = 0
        self.suspect = False


class Runs:
    """Runs versions; `threads` at once off the loop, and `waiting` more may queue."""

    def __init__(self, *, threads: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="run")
        self._room = threads + waiting
        self._under_way = 0
        self._watched: dict[str, _Watched] = {}

    def is_inline(self, served: ServedVersion, rows: int) -> bool:
        """Whether a run of so many rows may be made on the event loop."""
        return served.inline and served.model.predicted_us(rows) <= INLINE_BUDGET_US

    def run_inline(self, served: ServedVersion, arrays: Arrays) -> Timed:
        """Run now, in this thread. Raises ModelFailed or InvalidInput."""
        watched = self._watched.get(served.digest)
        if watched is not None and watched.suspect:
            return self._run_measured(served, arrays, watched)
        begun = time.perf_counter_ns()
        outputs = served.model.run(arrays)
        run_us = (time.perf_counter_ns() - begun) // 1000
        if run_us > _OVERRUN_US:
            self._watched.setdefault(served.digest, _Watched()).suspect = True
        return Timed(outputs, run_us, 0)

    def _run_measured(self, served: ServedVersion, arrays: Arrays, watched: _Watched) -> Timed:
        begun, cpu = time.perf_counter_ns(), time.thread_time_ns()
        outputs = served.model.run(arrays)
        cpu_us = (time.thread_time_ns() - cpu) // 1000
        watched.suspect = cpu_us > _OVERRUN_US
        watched.overruns = watched.overruns + 1 if watched.suspect else 0
        if watched.overruns >= _OVERRUNS_UNTIL_THREADED:
            served.inline = False
        return Timed(outputs, (time.perf_counter_ns() - begun) // 1000, 0)

    async def run_threaded(
        self, served: ServedVersion, arrays: Arrays, *, time_limit_ms: int
    ) -> Timed:
        """Run in a thread. Raises Overloaded, ModelTimedOut, ModelFailed or InvalidInput."""
        if self._under_way >= self._room:
            raise Overloaded("too many runs are waiting; try again")
        self._under_way += 1
        asked = time.perf_counter_ns()
        options = RunOptions()
        begun: list[int] = []
        future = asyncio.get_running_loop().run_in_executor(
            self._pool, _timed_run, served, arrays, options, asked, begun
        )
        future.add_done_callback(self._done)
        finished, _ = await asyncio.wait((future,), timeout=time_limit_ms / 1000)
        if not finished:
            # Stops between two nodes of the graph; the thread is only free again when it has.
            options.terminate = True
            if not begun:
                # Too many others were before it: no failure of the model.
                raise Overloaded("no run could begin within the time limit; try again")
            raise ModelTimedOut(
                f"version {served.version} did not answer within {time_limit_ms} ms"
            )
        return future.result()

    def _done(self, future: asyncio.Future[Timed]) -> None:
        self._under_way -= 1
        if not future.cancelled():
            future.exception()  # looked at, so that an abandoned run warns nobody

    @property
    def under_way(self) -> int:
        """Threaded runs that wait or run now."""
        return self._under_way


def _timed_run(
    served: ServedVersion, arrays: Arrays, options: RunOptions, asked: int, begun: list[int]
) -> Timed:
    began = time.perf_counter_ns()
    begun.append(began)
    outputs = served.model.run(arrays, options)
    ended = time.perf_counter_ns()
    return Timed(outputs, (ended - began) // 1000, (began - asked) // 1000)
