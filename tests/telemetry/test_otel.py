"""Spans as a real OTLP/HTTP receiver gets them: every claim is read from decoded protobuf."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.metrics import get_meter_provider
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.proto.trace.v1.trace_pb2 import Status as SpanStatus
from opentelemetry.trace import get_tracer_provider

from gateway.core.records import (
    LabelRow,
    LabelsRecord,
    PredictionRecord,
    Record,
    ShadowRecord,
    TensorRecord,
)
from gateway.telemetry.otel import SpanSink, span_sink
from tests.telemetry.receiver import Receiver

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
CALLER = "a2fb4a1d1a96d312"
AT_US = 1_700_000_000_000_000
WAIT_S = 120.0
#: As the process found them, before any test: a global provider can be set only once.
HOSTS_PROVIDERS = get_tracer_provider(), get_meter_provider()


@pytest.fixture(autouse=True)
def _no_otel_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A running receiver that the environment names.

    What is sent leaves when the sink is closed or its queue is full, and never by the clock;
    nothing is sent again because the machine was slow.
    """
    started = Receiver()
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "300")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", started.url)
    yield started
    started.stop()


def _prediction(**changes: Any) -> PredictionRecord:
    facts: dict[str, Any] = {
        "sequence": 0,
        "accepted_rows": 3,
        "prediction_id": "0192-w-1",
        "accepted_at_us": AT_US,
        "occurred_at_us": None,
        "endpoint": "delays",
        "epoch": 4,
        "version": "2",
        "digest": "ab",
        "role": "challenger",
        "exclusion": "",
        "status": "ok",
        "error": "",
        "rows": 3,
        "unit_hash": 0x0123456789ABCDEF,
        "propensity_bp": 1000,
        "entity": None,
        "attributes": None,
        "client_request_id": "order-7",
        "client": "",
        "trace_id": TRACE,
        "span_id": SPAN,
        "parent_span_id": CALLER,
        "sampled": True,
        "latency_us": 700,
        "queue_us": 300,
        "inputs": [],
        "outputs": [],
    }
    return PredictionRecord(**{**facts, **changes})


def _shadow(**changes: Any) -> ShadowRecord:
    facts: dict[str, Any] = {
        "sequence": 0,
        "source_writer": "w",
        "source_end": 90,
        "prediction_id": "0192-w-1",
        "endpoint": "delays",
        "registration": 5,
        "version": "3",
        "digest": "cd",
        "status": "ok",
        "error": "",
        "rows": 3,
        "probability_bp": 10_000,
        "started_at_us": AT_US + 60_000_000,
        "latency_us": 1500,
        "batch_rows": 64,
        "outputs": [],
        "trace_id": TRACE,
        "parent_span_id": SPAN,
        "sampled": True,
    }
    return ShadowRecord(**{**facts, **changes})


def _opened() -> SpanSink:
    sink = span_sink()
    assert sink is not None
    return sink


def _sent(receiver: Receiver, *records: Record) -> list[Span]:
    sink = _opened()
    for record in records:
        sink(record)
    assert sink.close(timeout_s=WAIT_S)
    return receiver.spans


def _attributes(of: Any) -> dict[str, str | int]:
    return {
        a.key: a.value.string_value if a.value.HasField("string_value") else int(a.value.int_value)
        for a in of.attributes
    }


def test_a_request_is_a_server_span_with_the_ids_and_times_of_its_record(
    receiver: Receiver,
) -> None:
    """Trace, span and parent are those that the client saw; end = start + queue + run."""
    request, _ = _sent(receiver, _prediction())
    assert (request.name, request.kind) == ("infer delays", Span.SPAN_KIND_SERVER)
    assert request.trace_id.hex() == TRACE
    assert request.span_id.hex() == SPAN
    assert request.parent_span_id.hex() == CALLER
    assert request.start_time_unix_nano == AT_US * 1000
    assert request.end_time_unix_nano == (AT_US + 1000) * 1000
    assert request.status.code == SpanStatus.STATUS_CODE_UNSET
    assert _attributes(request) == {
        "audition.endpoint": "delays",
        "audition.version": "2",
        "audition.role": "challenger",
        "audition.prediction_id": "0192-w-1",
        "audition.rows": 3,
        "audition.status": "ok",
        "audition.client_request_id": "order-7",
    }


def test_a_long_client_request_id_is_cut(receiver: Receiver) -> None:
    """A caller cannot make spans large."""
    request, _ = _sent(receiver, _prediction(client_request_id="x" * 10_000))
    assert _attributes(request)["audition.client_request_id"] == "x" * 256


def test_a_trace_that_begins_here_has_no_parent(receiver: Receiver) -> None:
    """An empty parent in the record is no parent in the span."""
    request, _ = _sent(receiver, _prediction(parent_span_id=""))
    assert request.parent_span_id == b""


def test_the_run_is_a_child_that_begins_after_the_queue(receiver: Receiver) -> None:
    """The child spans the run alone."""
    request, run = _sent(receiver, _prediction())
    assert (run.name, run.kind) == ("run delays", Span.SPAN_KIND_INTERNAL)
    assert run.trace_id.hex() == TRACE
    assert run.parent_span_id == request.span_id
    assert run.span_id not in (request.span_id, bytes(8))
    assert run.start_time_unix_nano == (AT_US + 300) * 1000
    assert run.end_time_unix_nano == (AT_US + 1000) * 1000


def test_the_split_is_a_feature_flag_evaluation(receiver: Receiver) -> None:
    """The event names endpoint, version and the hash of the unit, at the time of the request."""
    request, run = _sent(receiver, _prediction())
    (event,) = request.events
    assert event.name == "feature_flag.evaluation"
    assert event.time_unix_nano == AT_US * 1000
    assert _attributes(event) == {
        "feature_flag.key": "delays",
        "feature_flag.result.variant": "2",
        "feature_flag.context.id": "0123456789abcdef",
    }
    assert not run.events


def test_a_request_without_a_unit_has_no_context_id(receiver: Receiver) -> None:
    """A missing unit is left out, never zero."""
    request, _ = _sent(receiver, _prediction(unit_hash=None))
    assert "feature_flag.context.id" not in _attributes(request.events[0])


def test_a_pinned_request_is_no_evaluation_of_the_split(receiver: Receiver) -> None:
    """The caller chose the version, so the split did not."""
    request, _ = _sent(receiver, _prediction(exclusion="pinned"))
    assert not request.events


@pytest.mark.parametrize("status", ["failed", "timed_out", "nonfinite"])
def test_a_failed_run_is_an_error_of_both_spans(receiver: Receiver, status: str) -> None:
    """The status is the record's word for how it ended."""
    request, run = _sent(receiver, _prediction(status=status))
    for span in (request, run):
        assert span.status.code == SpanStatus.STATUS_CODE_ERROR
        assert span.status.message == status
    assert _attributes(request)["error.type"] == status


def test_a_request_that_never_ran_has_no_run_span(receiver: Receiver) -> None:
    """Undecodable requests have no version; overloaded ones have one that did not run."""
    unread = _prediction(status="undecodable", exclusion="undecodable", version="", role="")
    turned_away = _prediction(status="overloaded", exclusion="overload")
    first, second = _sent(receiver, unread, turned_away)
    assert first.kind == second.kind == Span.SPAN_KIND_SERVER
    assert first.status.code == second.status.code == SpanStatus.STATUS_CODE_ERROR
    assert not first.events
    assert "audition.version" not in _attributes(first)


def test_a_span_never_ends_before_it_starts(receiver: Receiver) -> None:
    """A wall clock that is set back makes a span of no length."""
    for span in _sent(receiver, _prediction(status="failed", latency_us=-5000, queue_us=0)):
        assert span.end_time_unix_nano == span.start_time_unix_nano == AT_US * 1000


def test_a_shadow_run_is_a_trace_of_its_own_that_links_to_the_request(
    receiver: Receiver,
) -> None:
    """The request's trace stays as long as the request was."""
    (shadow,) = _sent(receiver, _shadow())
    assert shadow.name == "shadow delays"
    assert shadow.trace_id.hex() not in (TRACE, "0" * 32)
    assert shadow.parent_span_id == b""
    (link,) = shadow.links
    assert (link.trace_id.hex(), link.span_id.hex()) == (TRACE, SPAN)
    assert shadow.start_time_unix_nano == (AT_US + 60_000_000) * 1000
    assert shadow.end_time_unix_nano == (AT_US + 60_001_500) * 1000
    assert shadow.status.code == SpanStatus.STATUS_CODE_UNSET
    assert _attributes(shadow) == {
        "audition.endpoint": "delays",
        "audition.version": "3",
        "audition.registration": 5,
        "audition.prediction_id": "0192-w-1",
        "audition.rows": 3,
        "audition.batch_rows": 64,
        "audition.status": "ok",
    }


def test_a_shadow_run_that_failed_is_an_error(receiver: Receiver) -> None:
    """A challenger's failure is seen in its own trace."""
    (shadow,) = _sent(receiver, _shadow(status="timed_out"))
    assert shadow.status.code == SpanStatus.STATUS_CODE_ERROR
    assert shadow.status.message == "timed_out"


def test_records_read_again_make_the_same_spans(receiver: Receiver) -> None:
    """A restarted Evaluator reads on from its last flush: nothing may be counted twice."""
    spans = _sent(receiver, *(_prediction(), _shadow()) * 2)
    assert len(spans) == 6
    assert spans[:3] == spans[3:]


def test_each_version_and_registration_has_its_own_shadow_trace(receiver: Receiver) -> None:
    """Two challengers of one prediction never share ids."""
    kinds = [_shadow(), _shadow(version="4"), _shadow(registration=6), _shadow(prediction_id="x")]
    spans = _sent(receiver, *kinds)
    assert len({span.trace_id for span in spans}) == len({span.span_id for span in spans}) == 4


def test_unsampled_records_and_labels_make_nothing(receiver: Receiver) -> None:
    """Only what the worker sampled is sent."""
    row = LabelRow("l", "0192-w-1", 0, 1.0, None, None)
    silent: list[Record] = [
        _prediction(sampled=False),
        _shadow(sampled=False),
        LabelsRecord(0, 1, "", "", [row]),
    ]
    spans = _sent(receiver, *silent, _prediction())
    assert [span.name for span in spans] == ["infer delays", "run delays"]


def test_no_input_output_entity_or_error_text_leaves_the_machine(receiver: Receiver) -> None:
    """Spans go to other systems; what may hold a secret stays in the journal."""
    tensor = TensorRecord("planted-name", "BYTES", (1,), b"planted-data")
    _sent(
        receiver,
        _prediction(
            status="failed",
            error="planted-error",
            entity="planted-entity",
            attributes={"planted-key": "planted-value"},
            client="planted-client",
            inputs=[tensor],
            outputs=[tensor],
        ),
        _shadow(status="failed", error="planted-error", outputs=[tensor]),
    )
    assert len(receiver.spans) == 3
    assert not any(b"planted" in body for body in receiver.bodies)


def test_the_standard_variables_name_address_headers_and_service(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address for traces is taken as it is and goes before the general one."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{receiver.url}/own/path")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pricing")
    _sent(receiver, _prediction())
    assert receiver.paths == ["/own/path"]
    assert receiver.headers[0]["x-tenant"] == "blue"
    assert _attributes(receiver.requests[0].resource_spans[0].resource)["service.name"] == "pricing"


def test_without_a_name_the_service_is_audition(receiver: Receiver) -> None:
    """The general address gets the standard path; the service has the product's name."""
    _sent(receiver, _prediction())
    assert receiver.paths == ["/v1/traces"]
    resource = receiver.requests[0].resource_spans[0].resource
    assert _attributes(resource)["service.name"] == "audition"


def test_without_an_address_there_is_no_sink() -> None:
    """Nobody's localhost is tried unasked."""
    assert span_sink() is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
    ],
)
def test_the_standard_variables_turn_spans_off(
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
) -> None:
    """Each switch wins over a configured address, and is no complaint in the log."""
    monkeypatch.setenv(name, value)
    assert span_sink() is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
    ],
)
def test_a_wrong_setting_is_said_and_stops_nothing(
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
) -> None:
    """Verdicts go on without spans; the log says which variables to look at."""
    monkeypatch.setenv(name, value)
    with caplog.at_level(logging.ERROR, "gateway.telemetry.otel"):
        assert span_sink() is None
    assert "OTEL_" in caplog.text


def test_records_flow_while_the_receiver_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing raises and closing gives up in time."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        port = taken.getsockname()[1]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "300")
        sink = _opened()
        for _ in range(3000):
            sink(_prediction())
            sink(_shadow())
        assert not sink.close(timeout_s=0.2)
        sink(_prediction())


def test_closing_does_not_wait_for_a_receiver_that_hangs(receiver: Receiver) -> None:
    """A drain ends in time though the receiver never answers."""
    receiver.gate.clear()
    sink = _opened()
    sink(_prediction())
    assert not sink.close(timeout_s=0.2)


def test_a_full_queue_drops_its_oldest_spans(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent after a stall is what happened last."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    receiver.gate.clear()
    sink = _opened()
    for number in range(4):
        sink(_shadow(prediction_id=f"first-{number}"))
    assert receiver.arrived.wait(WAIT_S)
    for number in range(50):
        sink(_shadow(prediction_id=f"later-{number}"))
    receiver.gate.set()
    assert sink.close(timeout_s=WAIT_S)
    sent = [_attributes(span)["audition.prediction_id"] for span in receiver.spans]
    assert sent == [f"first-{n}" for n in range(4)] + [f"later-{n}" for n in range(46, 50)]


def test_a_record_that_makes_no_span_stops_no_other(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Ids that are no hexadecimal number are logged once; the next record is sent."""
    broken = _prediction(trace_id="not hexadecimal")
    spans = _sent(receiver, broken, broken, _prediction())
    assert [span.name for span in spans] == ["infer delays", "run delays"]
    assert caplog.text.count("could not be turned into spans") == 1


def test_the_global_providers_are_left_alone(receiver: Receiver) -> None:
    """They are the host's."""
    _sent(receiver, _prediction())
    assert get_tracer_provider() is HOSTS_PROVIDERS[0]
    assert get_meter_provider() is HOSTS_PROVIDERS[1]
