"""Prometheus metrics of the data plane: one sink of journal records, children cached.

Served by the host on `/metrics`, over all workers.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from gateway.core.records import PredictionRecord

_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10,
)  # fmt: skip

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


class MetricsSink:
    """Counts each journalled prediction. Looking children up by label costs more than counting."""

    def __init__(self) -> None:
        self._children: dict[tuple[str, str, str, str], tuple[Counter, Counter, Histogram]] = {}

    def __call__(self, record: PredictionRecord) -> None:
        """Count one record."""
        key = (record.endpoint, record.version, record.role, record.status)
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = (
                _REQUESTS.labels(*key),
                _ROWS.labels(record.endpoint, record.version),
                _RUN_SECONDS.labels(*key[:3]),
            )
        requests, rows, run_seconds = children
        requests.inc()
        if record.status == "ok":
            rows.inc(record.rows)
            run_seconds.observe(record.latency_us / 1e6)


def show_epoch(endpoint: str, epoch: int) -> None:
    """Say which epoch this worker serves."""
    _EPOCH.labels(endpoint).set(epoch)
