"""Where a run happens: on the event loop if it is predicted to be short, else in a thread.

A thread hop costs more than most small models do, and a long run on the loop would hold up
every other request; so the predicted cost decides. Only threaded runs can time out, and only
they are joined: who finds a thread free and the model idle runs at once, and those that come
meanwhile are the next run (lines.py says whose turn it is).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from gateway.core.routes import EndpointRules
from gateway.errors import ModelTimedOut, Overloaded
from gateway.runtimes.onnx import INLINE_BUDGET_US, Arrays
from gateway.serving.batches import Run, Timed, Waiting, run_timed
from gateway.serving.lines import Lines
from gateway.serving.routes import ServedVersion

#: Wall time is looked at first because it is free; a machine that is busy elsewhere is no
#: fault of the model, so the CPU time of the runs that follow decides. Twice the budget,
#: because predictions are rough and a run within them must not demote a model.
_OVERRUN_US = 2 * INLINE_BUDGET_US
_OVERRUNS_UNTIL_THREADED = 2


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
        self._threads = threads
        self._room = threads + waiting
        self._running = 0
        self._begin_is_due = False
        self._lines = Lines()
        self._ended: deque[tuple[Run, Future[list[Timed]]]] = deque()
        self._loop: asyncio.AbstractEventLoop
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
        self,
        served: ServedVersion,
        arrays: Arrays,
        *,
        rows: int,
        endpoint: str,
        rules: EndpointRules,
    ) -> Timed:
        """Run in a thread, perhaps together with others.

        Raises Overloaded, ModelTimedOut, ModelFailed or InvalidInput.
        """
        if self.under_way >= self._room:
            self._make_room(endpoint)
        self._loop = loop = asyncio.get_running_loop()
        one = Waiting(
            served,
            arrays,
            rows=rows,
            endpoint=endpoint,
            rules=rules,
            asked_ns=time.perf_counter_ns(),
            future=loop.create_future(),
        )
        self._lines.add(one)
        if not self._begin_is_due:
            # After everything that has come by now: what is there already can be one run.
            self._begin_is_due = True
            loop.call_soon(self._begin)
        one.ends_at_s = loop.time() + rules.time_limit_ms / 1000
        limit_ms = rules.time_limit_ms if rules.max_queue_ms is None else rules.max_queue_ms
        one.timer = loop.call_later(limit_ms / 1000, self._expire, one)
        try:
            return await one.future
        except asyncio.CancelledError:
            self._let_go(one)
            raise
        finally:
            one.timer.cancel()

    @property
    def under_way(self) -> int:
        """Requests that wait and runs that are made now."""
        return self._lines.waiting + self._running

    def _make_room(self, endpoint: str) -> None:
        """Turn somebody away: of the longest line, so that a flood only harms itself."""
        refusal = Overloaded("too many runs are waiting; try again")
        last = self._lines.newest_of_longest(beyond=endpoint)
        if last is None:
            raise refusal
        self._lines.remove(last)
        last.future.set_exception(refusal)

    def _begin(self) -> None:
        """Note what has ended, and begin what may begin now."""
        self._begin_is_due = False
        while self._ended:
            self._end(*self._ended.popleft())
        while self._running < self._threads and (run := self._lines.next_run()) is not None:
            self._running += 1
            made = self._pool.submit(run_timed, run)
            made.add_done_callback(partial(self._tell, run))

    def _tell(self, run: Run, made: Future[list[Timed]]) -> None:
        """Called in the thread; everything else happens on the event loop."""
        self._ended.append((run, made))
        with suppress(RuntimeError):  # the loop has ended; a next one finds it noted
            self._loop.call_soon_threadsafe(self._begin)

    def _end(self, run: Run, made: Future[list[Timed]]) -> None:
        self._running -= 1
        self._lines.ended(run)
        error = made.exception()
        if error is None:
            for one, timed in zip(run.members, made.result(), strict=True):
                if not one.future.done():
                    one.future.set_result(timed)
        else:
            self._blame(run, error)

    def _blame(self, run: Run, error: BaseException) -> None:
        """A run that failed is one request's failure only if it was alone in it."""
        left = [one for one in run.members if not one.future.done()]
        if len(run.members) > 1:
            self._lines.put_back(left)
        elif left:
            left[0].future.set_exception(error)

    def _expire(self, one: Waiting) -> None:
        if one.future.done():
            return
        if one.run is None or not one.run.began_ns:
            # Too many others were before it: no failure of the model.
            error: Exception = Overloaded("no run could begin within the time limit; try again")
        elif (loop := asyncio.get_running_loop()).time() < one.ends_at_s:
            # It began in time, so from now on only the other limit counts.
            one.timer = loop.call_at(one.ends_at_s, self._expire, one)
            return
        else:
            error = ModelTimedOut(
                f"version {one.served.version} did not answer within {one.rules.time_limit_ms} ms"
            )
        one.future.set_exception(error)
        self._let_go(one)

    def _let_go(self, one: Waiting) -> None:
        """Nobody waits for this request any more: end its run if that is true of all in it."""
        self._lines.remove(one)
        if one.run is not None and all(other.future.done() for other in one.run.members):
            # Stops between two nodes of the graph; the thread is only free again when it has.
            one.run.options.terminate = True
