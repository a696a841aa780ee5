"""Spans of journal records, made in the Evaluator and sent over OTLP/HTTP.

Rules:
- a span is a view of a record and the journal is the truth: ids come from the record or are
  digests of it, so a record that is read again after a restart makes the same spans;
- whether a record is sampled was decided when the request came in, never here;
- nothing that a caller, a model or a label says goes into a span, except the caller's request
  id: error texts may quote an input, and spans leave this machine. They stay in the journal
  under the prediction id, which the span has;
- no failure reaches the Evaluator, and the queue drops its oldest spans when it is full;
- only the standard OTEL_* variables configure it, and the SDK itself reads them. The global
  tracer provider belongs to the host and is neither set nor asked.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from hashlib import blake2b

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gateway.core.records import PredictionRecord, Record, ShadowRecord

_log = logging.getLogger(__name__)
_SCOPE = InstrumentationScope("audition")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
#: Requests that ended so had a model running; the others were turned away before it.
_RAN = frozenset({"ok", "failed", "timed_out", "nonfinite"})
_CLIENT_ID_CHARACTERS = 256

Attributes = dict[str, str | int]


class SpanSink:
    """Takes every record once; only sampled predictions and shadow runs make spans."""

    def __init__(self, *, resource: Resource, exporter: SpanExporter) -> None:
        self._resource = resource
        self._exporter = exporter
        self._processor = BatchSpanProcessor(exporter, meter_provider=NoOpMeterProvider())
        self._has_failed = False

    def __call__(self, record: Record) -> None:
        """Queue the spans of one record; never raises and never waits for the receiver."""
        try:
            for span in spans_of(record, resource=self._resource):
                self._processor.on_end(span)
        except Exception:
            # Once: what breaks on one record may well break on each of them.
            if not self._has_failed:
                _log.exception("a journal record could not be turned into spans")
            self._has_failed = True

    def close(self, *, timeout_s: float = 5.0) -> bool:
        """Send what is queued; False where the receiver did not take it in `timeout_s`."""
        # The SDK would wait up to 30 s and offers no shorter limit.
        closing = threading.Thread(target=self._processor.shutdown, daemon=True)
        closing.start()
        closing.join(timeout_s)
        if not closing.is_alive():
            return True
        self._exporter.shutdown()  # ends its retries, and with them the thread
        return False


def span_sink() -> SpanSink | None:
    """The sink that the OTEL_* variables ask for, or None where they ask for none.

    Wrong settings are logged and make no sink: verdicts must not stop for want of spans.
    """
    if not _is_wanted(os.environ):
        return None
    try:
        return SpanSink(
            resource=_resource(), exporter=OTLPSpanExporter(meter_provider=NoOpMeterProvider())
        )
    except Exception:
        _log.exception("no spans are sent: check the OTEL_* variables")
        return None


def _is_wanted(env: Mapping[str, str]) -> bool:
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if not any(
        env.get(name)
        for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    ):
        return False
    exporters = {name.strip() for name in (env.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")}
    if exporters == {"none"}:
        return False
    protocol = (
        env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or env.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    if "otlp" in exporters and protocol == "http/protobuf":
        return True
    _log.error(
        "no spans are sent: OTEL_TRACES_EXPORTER must be otlp or none (it is %s) and"
        " OTEL_EXPORTER_OTLP_PROTOCOL http/protobuf (it is %s)",
        ",".join(sorted(exporters)),
        protocol,
    )
    return False


def _resource() -> Resource:
    detected = Resource.create()
    if str(detected.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return detected.merge(Resource({SERVICE_NAME: "audition"}))
    return detected


def spans_of(record: Record, *, resource: Resource) -> tuple[ReadableSpan, ...]:
    """The finished spans of one record; none where it was not sampled or has no trace."""
    if isinstance(record, ShadowRecord):
        return (_shadow_span(record, resource),) if record.sampled and record.trace_id else ()
    if not isinstance(record, PredictionRecord) or not record.sampled:
        return ()
    request = _request_span(record, resource)
    if record.version and record.status in _RAN:
        return (request, _run_span(record, resource))
    return (request,)


def _request_span(record: PredictionRecord, resource: Resource) -> ReadableSpan:
    start_us = record.accepted_at_us
    caller = record.parent_span_id
    return ReadableSpan(
        name=f"infer {record.endpoint}",
        context=_context(record.trace_id, record.span_id),
        parent=_context(record.trace_id, caller, is_remote=True) if caller else None,
        resource=resource,
        attributes=_request_attributes(record),
        events=_split_events(record),
        kind=SpanKind.SERVER,
        status=_status(record.status),
        start_time=start_us * 1000,
        end_time=_end_ns(start_us, record.queue_us + record.latency_us),
        instrumentation_scope=_SCOPE,
    )


def _run_span(record: PredictionRecord, resource: Resource) -> ReadableSpan:
    start_us = record.accepted_at_us + max(0, record.queue_us)
    span_id = _digest_ids("run", record.trace_id, record.span_id)[1]
    return ReadableSpan(
        name=f"run {record.endpoint}",
        context=_context(record.trace_id, span_id),
        parent=_context(record.trace_id, record.span_id),
        resource=resource,
        attributes={
            "audition.endpoint": record.endpoint,
            "audition.version": record.version,
            "audition.rows": record.rows,
        },
        status=_status(record.status),
        start_time=start_us * 1000,
        end_time=_end_ns(start_us, record.latency_us),
        instrumentation_scope=_SCOPE,
    )


def _shadow_span(record: ShadowRecord, resource: Resource) -> ReadableSpan:
    """A trace of its own: it runs long after the request has been answered."""
    trace_id, span_id = _digest_ids(
        "shadow", record.prediction_id, record.version, str(record.registration)
    )
    request = _context(record.trace_id, record.parent_span_id, is_remote=True)
    return ReadableSpan(
        name=f"shadow {record.endpoint}",
        context=_context(trace_id, span_id),
        resource=resource,
        attributes={
            "audition.endpoint": record.endpoint,
            "audition.version": record.version,
            "audition.registration": record.registration,
            "audition.prediction_id": record.prediction_id,
            "audition.rows": record.rows,
            "audition.batch_rows": record.batch_rows,
            **_ending(record.status),
        },
        links=(Link(request),),
        status=_status(record.status),
        start_time=record.started_at_us * 1000,
        end_time=_end_ns(record.started_at_us, record.latency_us),
        instrumentation_scope=_SCOPE,
    )


def _request_attributes(record: PredictionRecord) -> Attributes:
    attributes: Attributes = {
        "audition.endpoint": record.endpoint,
        "audition.prediction_id": record.prediction_id,
        "audition.rows": record.rows,
        **_ending(record.status),
    }
    if record.version:
        attributes["audition.version"] = record.version
        attributes["audition.role"] = record.role
    if record.client_request_id is not None:
        attributes["audition.client_request_id"] = record.client_request_id[:_CLIENT_ID_CHARACTERS]
    return attributes


def _split_events(record: PredictionRecord) -> tuple[Event, ...]:
    """The split's decision, where there was one: not for a pinned or an undecodable request."""
    if not record.version or record.exclusion == "pinned":
        return ()
    attributes = {
        "feature_flag.key": record.endpoint,
        "feature_flag.result.variant": record.version,
    }
    if record.unit_hash is not None:
        attributes["feature_flag.context.id"] = f"{record.unit_hash:016x}"
    at_ns = record.accepted_at_us * 1000
    return (Event("feature_flag.evaluation", attributes=attributes, timestamp=at_ns),)


def _ending(status: str) -> Attributes:
    if status == "ok":
        return {"audition.status": status}
    return {"audition.status": status, "error.type": status}


def _status(status: str) -> Status:
    return Status(StatusCode.UNSET) if status == "ok" else Status(StatusCode.ERROR, status)


def _context(trace_id: str, span_id: str, *, is_remote: bool = False) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, _SAMPLED)


def _end_ns(start_us: int, duration_us: int) -> int:
    # A failed request is timed by the wall clock, which may have been set back meanwhile.
    return (start_us + max(0, duration_us)) * 1000


def _digest_ids(*parts: str) -> tuple[str, str]:
    """A trace id and a span id that the same parts always give."""
    digest = blake2b("\0".join(parts).encode(), digest_size=24).hexdigest()
    return digest[:32], digest[32:]
