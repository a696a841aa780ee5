"""W3C trace context by hand: callers' traces go on, bad headers begin new ones."""

from __future__ import annotations

import pytest
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.serving.trace import PARENT_SAMPLED_PER_S, Tracer

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_callers_trace_goes_on() -> None:
    """The same trace, its span as parent, a span id of our own, its sampling."""
    for flags, sampled in (("01", True), ("00", False), ("03", True)):
        trace = Tracer(ratio=0, seed=1).begin(f"00-{TRACE_ID}-{SPAN_ID}-{flags}")
        assert (trace.trace_id, trace.parent_span_id) == (TRACE_ID, SPAN_ID)
        assert trace.span_id not in (SPAN_ID, "0" * 16)
        assert trace.sampled is sampled


def test_the_returned_header_is_read_by_others() -> None:
    """OpenTelemetry's own reader finds our trace, span and flag in it."""
    for ratio in (0, 1):
        trace = Tracer(ratio=ratio, seed=1).begin(None)
        context = TraceContextTextMapPropagator().extract({"traceparent": trace.traceparent})
        found = get_current_span(context).get_span_context()
        assert f"{found.trace_id:032x}" == trace.trace_id
        assert f"{found.span_id:016x}" == trace.span_id
        assert found.trace_flags.sampled is trace.sampled is bool(ratio)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        f"00-{TRACE_ID}-{SPAN_ID}",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-01\n",
        f"00-{TRACE_ID}-{SPAN_ID}-zz",
    ],
)
def test_an_invalid_header_begins_a_trace(header: str) -> None:
    """As the standard asks; a client cannot put anything else into the record."""
    trace = Tracer(ratio=0, seed=1).begin(header)
    assert trace.trace_id != TRACE_ID
    assert trace.parent_span_id == ""
    assert not trace.sampled


def test_the_ratio_is_the_share_that_is_sampled() -> None:
    """Of traces that begin here, independent of callers."""
    tracer = Tracer(ratio=0.25, seed=7)
    sampled = sum(tracer.begin(None).sampled for _ in range(4000))
    assert 880 < sampled < 1120


def test_callers_cannot_force_spans_without_end() -> None:
    """However many requests ask for it, only so many a second are sampled."""
    tracer = Tracer(ratio=0, seed=1)
    asked = 4 * PARENT_SAMPLED_PER_S
    granted = sum(tracer.begin(f"00-{TRACE_ID}-{SPAN_ID}-01").sampled for _ in range(asked))
    # The loop may lie across the boundary of one second.
    assert PARENT_SAMPLED_PER_S <= granted <= 2 * PARENT_SAMPLED_PER_S


def test_ids_do_not_repeat() -> None:
    """Trace and span ids of one worker."""
    tracer = Tracer(ratio=0, seed=1)
    traces = [tracer.begin(None) for _ in range(5000)]
    assert len({trace.trace_id for trace in traces}) == 5000
    assert len({trace.span_id for trace in traces}) == 5000
