"""The metrics sink: what it tallies arrives in the library's metrics, to the last request."""

from __future__ import annotations

import asyncio

from prometheus_client import REGISTRY, CollectorRegistry, Histogram

from gateway.core.records import PredictionRecord
from gateway.telemetry.prometheus import FLUSH_EVERY_S, MetricsSink

LATENCIES_US = (1, 99, 100, 101, 250, 2_500, 9_999_999, 10_000_000, 20_000_000)


def _record(endpoint: str, *, status: str, latency_us: int, rows: int = 1) -> PredictionRecord:
    record = PredictionRecord(*[None] * 28)  # type: ignore[arg-type]
    record.endpoint, record.version, record.role = endpoint, "1", "champion"
    record.status, record.rows, record.latency_us = status, rows, latency_us  # type: ignore[assignment]
    return record


def _value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def _send(sink: MetricsSink, records: list[PredictionRecord]) -> None:
    async def sending() -> None:
        for record in records:
            sink(record)

    asyncio.run(sending())
    sink.flush()


def test_run_times_are_what_the_library_would_have_observed() -> None:
    """Tallied run times give the buckets, count and sum of a histogram that saw each of them."""
    oracle = CollectorRegistry()
    observed = Histogram(
        "oracle", "", registry=oracle, buckets=[b / 1e6 for b in (100, 250, 500, 1_000, 10**7)]
    )
    for latency_us in LATENCIES_US:
        observed.observe(latency_us / 1e6)
    _send(MetricsSink(), [_record("oracle", status="ok", latency_us=each) for each in LATENCIES_US])
    labels = {"endpoint": "oracle", "version": "1", "role": "champion"}
    for bound in ("0.0001", "0.00025", "0.0005", "0.001", "10.0", "+Inf"):
        assert _value("audition_run_seconds_bucket", **labels, le=bound) == oracle.get_sample_value(
            "oracle_bucket", {"le": bound}
        )
    assert _value("audition_run_seconds_count", **labels) == len(LATENCIES_US)
    assert abs((_value("audition_run_seconds_sum", **labels) or 0) - sum(LATENCIES_US) / 1e6) < 1e-6


def test_failures_are_requests_without_rows_or_run_times() -> None:
    """A request that failed is counted by its status, and its rows were not answered."""
    records = [_record("fails", status=s, latency_us=5, rows=3) for s in ("ok", "failed", "ok")]
    _send(MetricsSink(), records)
    labels = {"endpoint": "fails", "version": "1", "role": "champion"}
    assert _value("audition_requests_total", **labels, status="ok") == 2
    assert _value("audition_requests_total", **labels, status="failed") == 1
    assert _value("audition_rows_total", endpoint="fails", version="1") == 6
    assert _value("audition_run_seconds_count", **labels) == 2


def test_a_flush_counts_nothing_twice() -> None:
    """What was brought over once is not brought over again."""
    sink = MetricsSink()
    _send(sink, [_record("once", status="ok", latency_us=5)])
    sink.flush()
    labels = {"endpoint": "once", "version": "1", "role": "champion", "status": "ok"}
    assert _value("audition_requests_total", **labels) == 1


def test_the_last_request_is_counted_without_another_one() -> None:
    """A timer brings the tallies over, so that a gateway gone quiet still shows all of them."""

    async def one_request() -> None:
        MetricsSink()(_record("quiet", status="ok", latency_us=5))
        deadline = asyncio.get_running_loop().time() + 20 * FLUSH_EVERY_S
        while _value("audition_requests_total", **labels) is None:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)

    labels = {"endpoint": "quiet", "version": "1", "role": "champion", "status": "ok"}
    asyncio.run(one_request())
    assert _value("audition_requests_total", **labels) == 1
