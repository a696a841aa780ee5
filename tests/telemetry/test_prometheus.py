"""Metrics: what was journalled is what is counted, and the library's own figures agree."""

from __future__ import annotations

import asyncio
import math
import secrets
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Histogram

from gateway.core.records import PredictionRecord
from gateway.core.tax import Tax
from gateway.telemetry import prometheus
from gateway.telemetry.prometheus import MetricsSink, show_epoch, show_provider, show_tax
from tests.archive.records import prediction


@pytest.fixture
def endpoint() -> str:
    """A name of its own: the registry is the process's."""
    return f"demo-{secrets.token_hex(4)}"


def _record(endpoint: str, **facts: Any) -> PredictionRecord:
    given = {"endpoint": endpoint, "version": "1", "role": "champion", "status": "ok", **facts}
    return msgspec.structs.replace(prediction("1"), **given)


def _count(records: list[PredictionRecord]) -> None:
    async def count() -> None:
        sink = MetricsSink()
        for record in records:
            sink(record)
        sink.flush()

    asyncio.run(count())


def _value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_every_record_is_counted_by_how_it_ended(endpoint: str) -> None:
    """Failures too; rows and run times only of what was answered."""
    _count(
        [
            _record(endpoint, rows=3),
            _record(endpoint, rows=2),
            _record(endpoint, status="failed", rows=7),
            _record(endpoint, version="", role="", status="undecodable"),
            _record(endpoint, version="2", role="challenger"),
        ]
    )
    ended = {"endpoint": endpoint, "version": "1", "role": "champion"}
    assert _value("audition_requests_total", **ended, status="ok") == 2
    assert _value("audition_requests_total", **ended, status="failed") == 1
    undecodable = {"endpoint": endpoint, "version": "", "role": "", "status": "undecodable"}
    assert _value("audition_requests_total", **undecodable) == 1
    assert _value("audition_rows_total", endpoint=endpoint, version="1") == 5
    assert _value("audition_run_seconds_count", **ended) == 2


def test_run_times_are_the_histogram_that_the_library_would_make(endpoint: str) -> None:
    """Bucket by bucket, on the bounds and between them."""
    latencies_us = [0, 99, 100, 101, 250, 999, 1000, 1001, 9_999_999, 10_000_000, 60_000_000]
    _count([_record(endpoint, latency_us=latency_us) for latency_us in latencies_us])
    bounds = prometheus._BUCKETS_S
    oracle = Histogram("oracle", "x", buckets=bounds, registry=CollectorRegistry())
    for latency_us in latencies_us:
        oracle.observe(latency_us / 1e6)
    (expected,) = oracle.collect()
    for sample in expected.samples:
        if not sample.name.endswith("_created"):
            labels = {"endpoint": endpoint, "version": "1", "role": "champion", **sample.labels}
            name = sample.name.replace("oracle", "audition_run_seconds")
            assert _value(name, **labels) == pytest.approx(sample.value), sample


def test_a_flush_counts_nothing_twice(endpoint: str) -> None:
    """What was brought over begins at nothing again."""

    async def count() -> None:
        sink = MetricsSink()
        for _ in range(3):
            sink(_record(endpoint))
            sink.flush()
            sink.flush()

    asyncio.run(count())
    ended = {"endpoint": endpoint, "version": "1", "role": "champion"}
    assert _value("audition_requests_total", **ended, status="ok") == 3
    assert _value("audition_run_seconds_count", **ended) == 3


def test_what_was_counted_is_brought_over_by_itself(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a moment, also when no further request comes, and again for those after it."""
    monkeypatch.setattr(prometheus, "FLUSH_EVERY_S", 0.001)
    ended = {"endpoint": endpoint, "version": "1", "role": "champion", "status": "ok"}

    async def count() -> None:
        sink = MetricsSink()
        for expected in (1, 2):
            sink(_record(endpoint))
            deadline = asyncio.get_running_loop().time() + 120
            while _value("audition_requests_total", **ended) != expected:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.001)

    asyncio.run(count())


def test_the_epoch_that_is_served_is_shown(endpoint: str) -> None:
    """The latest of each endpoint."""
    show_epoch(endpoint, 3)
    show_epoch(endpoint, 4)
    assert _value("audition_epoch", endpoint=endpoint) == 4


def test_what_a_version_runs_on_is_shown(endpoint: str) -> None:
    """One for each worker that has loaded it there."""
    show_provider(endpoint, "1", "cpu")
    show_provider(endpoint, "1", "cpu")
    assert _value("audition_provider", endpoint=endpoint, version="1", provider="cpu") == 1


def test_the_tax_is_shown_with_its_bounds(endpoint: str) -> None:
    """In seconds, as Prometheus has it; NaN and no rounds while it is unknown."""
    show_tax(endpoint, None, duty=1.0)
    assert _value("audition_shadow_tax_rounds", endpoint=endpoint) == 0
    unknown = _value("audition_shadow_tax_seconds", endpoint=endpoint, bound="difference")
    assert unknown is not None and math.isnan(unknown)
    show_tax(endpoint, Tax(20, 900, 300, 3.0, 1.0, 2.0, 1.5, 2.5), duty=0.5)
    bounds = ("lower", "difference", "upper")
    found = [_value("audition_shadow_tax_seconds", endpoint=endpoint, bound=b) for b in bounds]
    assert found == [0.0015, 0.002, 0.0025]
    assert _value("audition_shadow_tax_rounds", endpoint=endpoint) == 20
    assert _value("audition_shadow_duty") == 0.5
