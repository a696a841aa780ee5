"""What a real gateway tells of its work: spans over OTLP, the journal's ids, metrics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from gateway.core.records import PredictionRecord
from gateway.journal.reader import JournalTail, writer_ids
from tests.serving_process import ServingProcess, eventually, start_server
from tests.synthetic_models import constant, write_endpoint
from tests.telemetry.receiver import Receiver

ENDPOINT = "traced"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
BODY = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """A collector on a free port."""
    collector = Receiver()
    yield collector
    collector.stop()


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory, receiver: Receiver
) -> Iterator[ServingProcess]:
    """Two workers that sample every trace, with a challenger in shadow."""
    folder = tmp_path_factory.mktemp("traced")
    versions = {"1": constant(0.1), "2": constant(0.2)}
    write_endpoint(folder / "models", ENDPOINT, versions, {"champion": "1"})
    server = start_server(
        folder,
        folder / "models",
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "AUDITION_TRACE_RATIO": "1",
        },
    )
    try:
        server.change(ENDPOINT, "PUT", "challengers", "2")
        yield server
    finally:
        server.stop()


def ask(http: httpx.Client, headers: dict[str, str] | None = None) -> httpx.Response:
    """One answered request."""
    answer = http.post(f"/v2/models/{ENDPOINT}/infer", json=BODY, headers=headers or {})
    assert answer.status_code == 200, answer.text
    return answer


def test_a_callers_trace_goes_through_answer_journal_and_spans(
    traced: ServingProcess, receiver: Receiver
) -> None:
    """Request and run lie in the caller's trace; the shadow run has its own and links to it."""
    with traced.http() as http:
        answer = ask(http, HEADERS)
    version, trace_id, span_id, flags = answer.headers["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", TRACE, "01") and span_id != PARENT

    record = journalled(traced, answer.headers["x-prediction-id"])
    assert (record.trace_id, record.parent_span_id) == (TRACE, PARENT)
    assert record.span_id == span_id and record.sampled

    request, run, shadow = eventually(lambda: spans_of(receiver, answer))
    assert request.kind == Span.SPAN_KIND_SERVER
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert (request.span_id.hex(), run.parent_span_id.hex()) == (span_id, span_id)
    assert run.trace_id == request.trace_id != shadow.trace_id
    assert [(one.trace_id.hex(), one.span_id.hex()) for one in shadow.links] == [(TRACE, span_id)]


def spans_of(receiver: Receiver, answer: httpx.Response) -> list[Span] | None:
    """The request's, the run's and the shadow's span, once all three have arrived."""
    span_id = answer.headers["traceparent"].split("-")[2]
    request = [one for one in receiver.spans if one.span_id.hex() == span_id]
    run = [one for one in receiver.spans if one.parent_span_id.hex() == span_id]
    shadow = [o for o in receiver.spans if any(k.span_id.hex() == span_id for k in o.links)]
    found = request + run + shadow
    if not (request and run and shadow):
        return None
    assert [one.name for one in found] == [
        f"{kind} {ENDPOINT}" for kind in ("infer", "run", "shadow")
    ]
    return found


def predictions(server: ServingProcess) -> list[PredictionRecord]:
    """Everything that was journalled so far."""
    root = server.state / "journal"
    tails = [JournalTail(root / writer_id) for writer_id in writer_ids(root)]
    records = [entry.record for tail in tails for entry in tail.drain()]
    return [record for record in records if isinstance(record, PredictionRecord)]


def journalled(server: ServingProcess, prediction_id: str) -> PredictionRecord:
    """The record of one prediction."""
    (found,) = [one for one in predictions(server) if one.prediction_id == prediction_id]
    return found


def test_a_request_without_a_trace_begins_one(traced: ServingProcess, receiver: Receiver) -> None:
    """It is named in the answer, and its span has no parent."""
    with traced.http() as http:
        answer = ask(http)
    trace_id = answer.headers["traceparent"].split("-")[1]
    assert trace_id != TRACE and int(trace_id, 16)
    request, *_ = eventually(lambda: spans_of(receiver, answer))
    assert request.trace_id.hex() == trace_id and not request.parent_span_id


def test_metrics_add_up_over_the_workers(traced: ServingProcess) -> None:
    """Whichever worker is asked: each journalled request of either once, failures included."""
    with ExitStack() as stack:
        workers: dict[str, httpx.Client] = {}
        while len(workers) < 2:
            http = stack.enter_context(traced.http())
            workers.setdefault(ask(http).headers["x-prediction-id"][11:23], http)
        for http in workers.values():
            ask(http)
            assert http.post(f"/v2/models/{ENDPOINT}/infer", json={"inputs": []}).status_code == 400
    expected = Counter(
        (one.endpoint, one.version, one.role, one.status) for one in predictions(traced)
    )
    assert {labels[3] for labels in expected} == {"ok", "undecodable"}
    # Tallies are brought over by a timer, so a figure may be a moment old.
    eventually(lambda: counted(traced) == expected)


def counted(server: ServingProcess) -> dict[tuple[str, str, str, str], float]:
    """`audition_requests_total` by endpoint, version, role and status."""
    with server.http() as http:
        text = http.get("/metrics").text
    return {
        (
            sample.labels["endpoint"],
            sample.labels["version"],
            sample.labels["role"],
            sample.labels["status"],
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "audition_requests_total"
    }


def test_a_shadow_run_is_no_request(traced: ServingProcess) -> None:
    """Only answers are counted: the challenger ran, and appears nowhere as one that answered."""
    with traced.http() as http:
        ask(http)
    traced.caught_up(ENDPOINT)
    assert not [labels for labels in counted(traced) if labels[1] == "2"]


def test_the_shadow_tax_is_unknown_at_first(traced: ServingProcess) -> None:
    """The status says how many rounds there are; metrics have no figure."""
    with traced.http() as http:
        tax = eventually(lambda: shadow_tax(traced))
        assert tax["tax"] is None and tax["rounds"] == 0 < tax["rounds_needed"]
        assert tax["schedule"]["blocks"] == 20
        families = eventually(lambda: tax_metrics(http.get("/metrics").text))
    assert families["audition_shadow_duty"][0].value == 1.0
    (rounds,) = [s for s in families["audition_shadow_tax_rounds"] if s.labels["endpoint"]]
    assert (rounds.labels["endpoint"], rounds.value) == (ENDPOINT, 0)
    assert all(math.isnan(sample.value) for sample in families["audition_shadow_tax_seconds"])


def shadow_tax(server: ServingProcess) -> dict[str, Any] | None:
    """What the status says of it, once the Evaluator has reported."""
    evaluator = server.status(ENDPOINT)["evaluator"]
    return None if evaluator is None else evaluator["shadow_tax"]


def tax_metrics(text: str) -> dict[str, Any]:
    """The metrics of the shadow, by name; empty while the Evaluator has shown none."""
    families = text_string_to_metric_families(text)
    return {f.name: f.samples for f in families if f.name.startswith("audition_shadow")}


def test_the_log_holds_no_stack_trace(traced: ServingProcess) -> None:
    """All of the above, refusals included, is ordinary work."""
    assert "Traceback" not in traced.log_file.read_text()
