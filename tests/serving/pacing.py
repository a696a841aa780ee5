"""Runs that begin, and time limits that pass, when a test says so: no machine is too slow for it.

Rules: the model runs for real, in the thread that it always runs in; here it only says that it
has begun, and may be told to wait with that. An hour passes when a test lets it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from gateway.runtimes.onnx import Arrays
from gateway.serving.routes import ServedVersion

_T = TypeVar("_T")

HOUR_S = 3600
HOUR_MS = HOUR_S * 1000
_PATIENCE_S = 120


class PacedModel:
    """The model of a served version, which says when a run has begun and can be held up."""

    def __init__(self, served: ServedVersion) -> None:
        """Take the model's place."""
        self._model: Any = served.model
        self._begun = threading.Event()
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        served.model = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run(self, *given: Any) -> Arrays:
        """As the model itself, once that is allowed."""
        self._begun.set()
        assert self._may_go_on.wait(_PATIENCE_S), "nobody let the run go on"
        outputs: Arrays = self._model.run(*given)
        return outputs

    def hold(self) -> None:
        """Let no run go on before `release`."""
        self._may_go_on.clear()

    def release(self) -> None:
        """Let the runs go on."""
        self._may_go_on.set()

    def await_begun(self) -> None:
        """Return when a run has begun in its thread."""
        assert self._begun.wait(_PATIENCE_S), "no run began"

    async def begun(self) -> None:
        """As `await_begun`, beside what the event loop has to do."""
        await asyncio.to_thread(self.await_begun)


class LeapingClock:
    """The clock of an event loop, which can be put forward: time limits are over then."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def run(self, main: Coroutine[Any, Any, _T]) -> _T:
        """As `asyncio.run`, by this clock."""
        with asyncio.Runner(loop_factory=self._loop) as runner:
            return runner.run(main)

    def pass_an_hour(self) -> None:
        """Put it forward; called on the event loop."""
        self._ahead_s += HOUR_S

    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        genuine = loop.time
        loop.time = lambda: genuine() + self._ahead_s  # type: ignore[method-assign]
        return loop
