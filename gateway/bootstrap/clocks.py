"""The clocks of endpoints: as a worker moves them, and as whoever judges reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock

from gateway.bootstrap.identity import now_us
from gateway.core.routes import Rollout
from gateway.errors import InvalidInput
from gateway.serving.clock import EventClock, read_clock
from gateway.serving.routes import Routes, Table


class EventClocks:
    """Makes the clock of an endpoint when it is first asked for, in the state folder."""

    def __init__(self, folder: Path, *, writer_id: str, routes: Routes) -> None:
        self._folder = folder
        self._writer_id = writer_id
        self._routes = routes
        self._clocks: dict[str, EventClock] = {}
        self._lock = Lock()

    def of(self, endpoint: str) -> EventClock:
        """The clock of an endpoint that is served."""
        clock = self._clocks.get(endpoint)
        if clock is None:
            # Requests ask on the event loop, labels in a thread; a second clock would begin the
            # file of the first anew.
            with self._lock:
                clock = self._clocks.get(endpoint) or self._new(endpoint)
        return clock

    def admit_label_time(self, observed_at_us: int) -> None:
        """Refuse a label from the future. Raises InvalidInput.

        A label names no endpoint, so any endpoint's clock may admit its time. It moves none:
        only where it is joined to its prediction is known whose time it is.
        """
        refusal: InvalidInput | None = None
        for endpoint, table in self._routes.tables.items():
            try:
                self._check(endpoint, table, observed_at_us)
            except InvalidInput as error:
                refusal = error
            else:
                return
        if refusal is not None:
            raise refusal

    def _check(self, endpoint: str, table: Table, observed_at_us: int) -> None:
        if table.rules.event_time == "client":
            self.of(endpoint).check("observed_at", observed_at_us)
        elif observed_at_us > now_us() + table.rules.clock_tolerance_s * 1_000_000:
            raise InvalidInput("observed_at", "the time lies in the future")

    def _new(self, endpoint: str) -> EventClock:
        rules = self._routes.tables[endpoint].rules
        clock = self._clocks[endpoint] = EventClock(
            self._folder / endpoint,
            writer_id=self._writer_id,
            tolerance_us=rules.clock_tolerance_s * 1_000_000,
        )
        return clock


class EndpointClock:
    """The clock of an endpoint: this machine's, or the latest time that was sent to it."""

    def __init__(self, folder: Path, observed_until_us: Callable[[str], int]) -> None:
        """`observed_until_us` is the latest observation among an endpoint's labels."""
        self._folder = folder
        self._observed_until_us = observed_until_us

    def now_us(self, rollout: Rollout) -> int:
        """Labels move the clock too, once they are joined to the predictions they are of.

        No further than a prediction may move it: one label must not end every horizon.
        """
        if rollout.rules.event_time != "client":
            return now_us()
        clock_us = read_clock(self._folder / rollout.endpoint)
        if not clock_us:
            return clock_us
        furthest_us = clock_us + rollout.rules.clock_tolerance_s * 1_000_000
        return max(clock_us, min(self._observed_until_us(rollout.endpoint), furthest_us))
