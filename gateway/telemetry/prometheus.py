"""Prometheus metrics of the data plane: one sink of journal records, tallied, then counted.

Served by the host on `/metrics`, over all workers. A metric that several processes share costs
a write into a mapped file each time; so a request only adds to plain numbers, and a timer
brings them over a few times a second.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left

from prometheus_client import Counter, Gauge, Histogram

from gateway.core.records import PredictionRecord
from gateway.core.tax import Tax

FLUSH_EVERY_S = 0.25
_BUCKETS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
_BUCKETS_US = tuple(round(bound_s * 1e6) for bound_s in _BUCKETS_S)

_REQUESTS = Counter(
    "audition_requests", "Requests by how they ended", ("endpoint", "version", "role", "status")
)
_ROWS = Counter("audition_rows", "Rows of requests that were answered", ("endpoint", "version"))
_RUN_SECONDS = Histogram(
    "audition_run_seconds",
    "Time of the model's run",
    ("endpoint", "version", "role"),
    buckets=_BUCKETS_S,
)
_EPOCH = Gauge(
    "audition_epoch", "The epoch that is served", ("endpoint",), multiprocess_mode="livemin"
)
_PROVIDER = Gauge(
    "audition_provider",
    "Workers that have loaded a version onto this provider",
    ("endpoint", "version", "provider"),
    multiprocess_mode="livesum",
)
_TAX = Gauge(
    "audition_shadow_tax_seconds",
    "What the shadow adds to the champion's p99: the estimate and its 95% interval",
    ("endpoint", "bound"),
    multiprocess_mode="livemostrecent",
)
_TAX_ROUNDS = Gauge(
    "audition_shadow_tax_rounds",
    "Rounds of blocks that the shadow tax is estimated from; 0: it is unknown",
    ("endpoint",),
    multiprocess_mode="livemostrecent",
)
_DUTY = Gauge(
    "audition_shadow_duty",
    "The share of its time that the shadow may work",
    multiprocess_mode="livemostrecent",
)


class _Tally:
    """What was counted of one endpoint, version, role and status since the last flush."""

    __slots__ = ("_labels", "buckets", "requests", "rows", "run_us")

    def __init__(self, labels: tuple[str, str, str, str]) -> None:
        self._labels = labels
        self._clear()

    def _clear(self) -> None:
        self.requests = self.rows = self.run_us = 0
        self.buckets = [0] * (len(_BUCKETS_US) + 1)

    def flush(self) -> None:
        """Bring it over into the metrics."""
        if not self.requests:
            return
        endpoint, version, role, _ = self._labels
        _REQUESTS.labels(*self._labels).inc(self.requests)
        if self.rows:
            _ROWS.labels(endpoint, version).inc(self.rows)
            _add(_RUN_SECONDS.labels(endpoint, version, role), self.buckets, self.run_us)
        self._clear()


class MetricsSink:
    """Counts each journalled prediction; called on the event loop, where it also flushes."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str, str, str], _Tally] = {}
        self._flush_is_due = False

    def __call__(self, record: PredictionRecord) -> None:
        """Count one record."""
        key = (record.endpoint, record.version, record.role, record.status)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = _Tally(key)
        tally.requests += 1
        if record.status == "ok":
            tally.rows += record.rows
            tally.run_us += record.latency_us
            tally.buckets[bisect_left(_BUCKETS_US, record.latency_us)] += 1
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_later(FLUSH_EVERY_S, self.flush)

    def flush(self) -> None:
        """Bring everything tallied over into the metrics."""
        self._flush_is_due = False
        for tally in self._tallies.values():
            tally.flush()


def show_epoch(endpoint: str, epoch: int) -> None:
    """Say which epoch this worker serves."""
    _EPOCH.labels(endpoint).set(epoch)


def show_provider(endpoint: str, version: str, provider: str) -> None:
    """Say what a loaded version runs on in this worker."""
    _PROVIDER.labels(endpoint, version, provider).set(1)


def show_tax(endpoint: str, tax: Tax | None, *, duty: float) -> None:
    """Say what the shadow costs an endpoint; NaN where it is unknown."""
    _DUTY.set(duty)
    _TAX_ROUNDS.labels(endpoint).set(0 if tax is None else tax.rounds)
    for bound in ("difference", "lower", "upper"):
        value_ms = math.nan if tax is None else getattr(tax, f"{bound}_ms")
        _TAX.labels(endpoint, bound).set(value_ms / 1000)


def _add(histogram: Histogram, buckets: list[int], run_us: int) -> None:
    # The library can only observe one value at a time; these are the sums that it keeps.
    histogram._sum.inc(run_us / 1e6)
    for own, seen in zip(histogram._buckets, buckets, strict=True):
        if seen:
            own.inc(seen)
