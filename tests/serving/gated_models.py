"""Real models whose runs wait at a gate, so that a test decides what comes while one is made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from threading import Semaphore
from typing import Any

from gateway.core.routes import EndpointRules
from gateway.runtimes.onnx import Arrays
from gateway.serving.batches import Timed
from gateway.serving.routes import ServedVersion
from gateway.serving.runs import Runs
from tests import models
from tests.serving.pacing import HOUR_MS

DEFAULTS = EndpointRules(time_limit_ms=HOUR_MS)
_DEADLINE_S = 60.0


class Gated:
    """A version's model; each run says what it was given and waits to be let through."""

    def __init__(self, model: Any, seen: list[Arrays]) -> None:
        self._model = model
        self._gate = Semaphore(0)
        self.seen = seen
        self.options: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run(self, arrays: Arrays, options: Any) -> Arrays:
        """The model's own run, once it may."""
        self.options.append(options)
        self.seen.append(arrays)
        assert self._gate.acquire(timeout=_DEADLINE_S)
        found: Arrays = self._model.run(arrays, options)
        return found

    def cost(self, fixed_us: float, per_row_us: float) -> None:
        """What a run is predicted to take."""
        self._model.fixed_us, self._model.per_row_us = fixed_us, per_row_us

    def let_through(self, runs: int) -> None:
        """Let so many runs go on."""
        self._gate.release(runs)


def gated(
    folder: Path,
    content: bytes,
    *,
    inline: bool = True,
    is_heavy: bool = True,
    seen: list[Arrays] | None = None,
) -> tuple[ServedVersion, Gated]:
    """A served version whose runs wait; heavy: most of its cost is the same for any rows."""
    facts = models.facts_in(folder, "demo", "1", content, inline=inline)
    model = models.loaded(folder, facts)
    served = ServedVersion(model, role="champion", propensity_bp=10_000)
    gate = Gated(model, [] if seen is None else seen)
    gate.cost(*((1000.0, 10.0) if is_heavy else (10.0, 1000.0)))
    served.model = gate  # type: ignore[assignment]
    return served, gate


def ask(
    runs: Runs,
    served: ServedVersion,
    arrays: Arrays,
    *,
    endpoint: str = "demo",
    rules: EndpointRules = DEFAULTS,
) -> asyncio.Task[Timed]:
    """A request under way."""
    rows = next(iter(arrays.values())).shape[0]
    return asyncio.create_task(
        runs.run_threaded(served, arrays, rows=rows, endpoint=endpoint, rules=rules)
    )


async def until(holds: Callable[[], bool]) -> None:
    """Wait for it; generously, because the machine may be busy."""
    deadline = time.monotonic() + _DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
