"""How a change is made: against the epoch that it was decided on, written once, then heard of.

Rules: what was read is what is compared and set, so what was checked is what is written. A
version gets live traffic only if every live worker has loaded it. Which changes there are is
not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.core.rollout import Command, step
from gateway.core.routes import Rollout
from gateway.errors import Conflict, InvalidInput
from gateway.judge.acknowledgement import LiveWorkers, require_loaded, wait_acknowledged
from gateway.judge.changes import Change, Intent, Opened
from gateway.ports import ControlStore, Registration

_REASON_CHARACTERS = 1000


class Commits:
    """Reads and writes rollouts. Any method may raise StoreUnavailable or UnknownEndpoint."""

    def __init__(
        self,
        store: ControlStore,
        *,
        clock_us: Callable[[], int],
        live_workers: LiveWorkers,
        acknowledge_within_s: float,
    ) -> None:
        self._store = store
        self._clock_us = clock_us
        self._live_workers = live_workers
        self._acknowledge_within_s = acknowledge_within_s

    def read(self, endpoint: str, intent: Intent) -> Rollout:
        """The rollout that the intent was decided on. Raises Conflict if it is another now."""
        rollout = self._store.rollout(endpoint)
        if rollout.epoch != intent.expected_epoch:
            raise Conflict(
                f"endpoint {endpoint} is at epoch {rollout.epoch}, not {intent.expected_epoch}; "
                "look at its status and decide anew",
                epoch=rollout.epoch,
            )
        return rollout

    def commit(
        self,
        rollout: Rollout,
        command: Command,
        intent: Intent,
        *,
        opened: Sequence[Registration] = (),
        closed: Mapping[int, str] | None = None,
        answering: Sequence[str] = (),
        require_verdict: tuple[int, str] | None = None,
    ) -> Change:
        """Write the next rollout and wait for the workers.

        `answering` are the versions that the change sends live traffic to.
        """
        after = step(rollout, command)
        reports, live = self._store.workers(), self._live_workers()
        require_loaded(rollout, answering, reports=reports, live=live)
        self.write(
            after,
            command,
            intent,
            opened=opened,
            closed=closed,
            require_verdict=require_verdict,
        )
        return self._heard(after, opened)

    def write(self, after: Rollout, command: Command, intent: Intent, **terms: Any) -> None:
        """Write `after` without waiting for anybody; `terms` as `ControlStore.commit` has them."""
        _require_readable(intent.reason)
        self._store.commit(
            after,
            command=command,
            actor=intent.actor,
            reason=intent.reason,
            at_us=self._clock_us(),
            **terms,
        )

    def _heard(self, after: Rollout, opened: Sequence[Registration]) -> Change:
        heard = wait_acknowledged(
            self._store,
            self._live_workers,
            after.endpoint,
            after.epoch,
            timeout_s=self._acknowledge_within_s,
        )
        return Change(
            endpoint=after.endpoint,
            epoch=after.epoch,
            acknowledged=heard.acknowledged,
            lagging=heard.lagging,
            opened=[Opened(r.version, r.number, r.level) for r in opened],
        )


def require_reason(intent: Intent, what: str) -> None:
    """Raise InvalidInput where there is none."""
    if not intent.reason.strip():
        raise InvalidInput("reason", f"{what} needs one: say why, for the decision log")


def _require_readable(reason: str) -> None:
    """A reason ends up on terminals and web pages: one line of text, and not a book."""
    if len(reason) > _REASON_CHARACTERS or not reason.isprintable():
        raise InvalidInput("reason", f"use at most {_REASON_CHARACTERS} printable characters")
