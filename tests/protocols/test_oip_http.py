"""The protocol over HTTP: its routes, who may use them, and what a request says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.routes import EndpointRules, EntityRule
from tests import models
from tests.protocols.door import GOOD, INFER, Door, MakeDoor


def test_an_answer_carries_who_gave_it(door: Door) -> None:
    """Endpoint, version that ran, role, the id for labels, and the client's own id."""
    answer = door.post({**GOOD, "id": "mine"}, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    (record,) = door.records()
    assert answer.json() == {
        "model_name": "demo",
        "model_version": "1",
        "id": "mine",
        "parameters": {"prediction_id": record.prediction_id, "role": "champion"},
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [8.0]}],
    }
    assert answer.headers["x-prediction-id"] == record.prediction_id
    assert answer.headers["content-type"] == "application/json"
    assert (record.client, record.client_request_id) == ("somebody", "mine")


def test_the_callers_trace_comes_back(door: Door) -> None:
    """With a span of ours, which is the one on record."""
    theirs = f"00-{'a' * 32}-{'b' * 16}-01"
    returned = door.post(headers={"traceparent": theirs}).headers["traceparent"]
    (record,) = door.records()
    assert returned == f"00-{'a' * 32}-{record.span_id}-01"
    assert (record.trace_id, record.parent_span_id) == ("a" * 32, "b" * 16)
    assert door.post(headers={"traceparent": "00-garbage"}).status_code == 200


def test_the_servers_own_routes_answer(door: Door) -> None:
    """Server metadata, liveness and readiness."""
    assert door.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert door.get("/v2/health/live").json() == {"live": True}
    assert door.get("/v2/health/ready").json() == {"ready": True}
    door.ready = False
    answer = door.get("/v2/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"ready": False})
    assert door.get("/v2/health/live").status_code == 200


def test_metadata_says_what_may_be_sent(make_door: MakeDoor) -> None:
    """Of the endpoint the union of the inputs, of a version what it reads itself."""
    door = make_door({"1": models.linear(), "2": models.pair()})
    found = door.get("/v2/models/demo").json()
    assert (found["name"], found["platform"]) == ("demo", "onnxruntime_onnx")
    assert found["versions"] == ["1", "2"]
    assert [spec["name"] for spec in found["inputs"]] == ["x", "a", "b"]
    assert found["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": [-1, 3]}
    version = door.get("/v2/models/demo/versions/2").json()
    assert [spec["name"] for spec in version["inputs"]] == ["a", "b"]
    assert [spec["name"] for spec in version["outputs"]] == ["total", "product"]
    assert door.get("/v2/models/demo/ready").json() == {"name": "demo", "ready": True}
    assert door.get("/v2/models/demo/versions/2/ready").status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/v2/models/nobody", 404, "no endpoint 'nobody'; there are: demo"),
        ("/v2/models/nobody/ready", 404, "no endpoint"),
        ("/v2/models/demo/versions/9", 404, "version '9' of endpoint demo is not loaded"),
        ("/v2/models/demo/versions/9/ready", 404, "loaded are 1, 2"),
        ("/v2/models", 404, "there is nothing at"),
        ("/v2/models/demo/versions", 404, "there is nothing at"),
        ("/v2/elsewhere", 404, "there is nothing at"),
        ("/v2/models/Demo", 422, "endpoint 'Demo': use 1 to 63"),
        (f"/v2/models/{'a' * 5000}", 422, "endpoint 'aaaa"),
        ("/v2/models/%2e%2e", 422, "endpoint '..'"),
        ("/v2/models/a%00b", 422, "endpoint 'a\\x00b'"),
        ("/v2/models/demo/versions/%2e%2e", 422, "version '..'"),
    ],
)
def test_what_is_not_there_is_said(door: Door, path: str, status: int, said: str) -> None:
    """By name, and what there is instead; also where a model is to be run."""
    answers = [door.get(path)]
    if said != "there is nothing at" and not path.endswith("/ready"):
        answers.append(door.post(path=f"{path}/infer"))
    for answer in answers:
        assert answer.status_code == status
        assert said in answer.json()["error"]
        assert len(answer.json()["error"]) < 400
    assert door.records() == []


def test_each_route_has_its_method(door: Door) -> None:
    """405 names the one that is right."""
    answer = door.get(INFER)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")
    answer = door.post(path="/v2/models/demo")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/demo"])
def test_head_is_a_get_and_options_says_what_there_is(door: Door, path: str) -> None:
    """On every path that can be read; what else is sent there is 405, also to health."""
    assert door.client.request("HEAD", path).status_code == 200
    allowed = door.client.request("OPTIONS", path)
    assert (allowed.status_code, allowed.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    refused = door.client.request("POST", path)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_a_pinned_version_answers_and_is_marked(door: Door) -> None:
    """Where the endpoint allows it, every caller may; its rows are never judged."""
    answer = door.post(path="/v2/models/demo/versions/2/infer")
    assert answer.json()["model_version"] == "2"
    assert answer.json()["parameters"]["role"] == "challenger"
    assert door.outcomes() == [("ok", "pinned", 1)]


def test_pinning_is_for_operators_unless_the_endpoint_allows_it(make_door: MakeDoor) -> None:
    """The operate role is enough by itself, and the infer role is not."""
    door = make_door({"1": models.linear(), "2": models.constant()})
    path = "/v2/models/demo/versions/2/infer"
    assert door.post(path=path).status_code == 403
    assert door.post().status_code == 200
    door.rights = {"view", "operate"}
    assert door.post(path=path).status_code == 200
    assert door.post().status_code == 403
    assert door.outcomes() == [("ok", "", 1), ("ok", "pinned", 1)]


def test_nobody_unknown_learns_which_endpoints_there_are(door: Door) -> None:
    """Rights are asked first; only the health routes are open."""
    door.rights = set()
    for path in ("/v2", "/v2/models/demo", "/v2/models/nobody", "/v2/models/nobody/ready"):
        assert door.get(path).status_code == 403
    assert door.post().status_code == 403
    assert door.post(path="/v2/models/nobody/infer").status_code == 403
    assert door.get("/v2/health/live").status_code == 200
    assert door.records() == []


def test_clients_that_bring_the_time_must_bring_it(make_door: MakeDoor) -> None:
    """Missing or a day ahead of the clock is 400; the clock is what was sent, not ours."""
    door = make_door({"1": models.linear()}, EndpointRules(event_time="client"))

    def at(moment: str) -> Any:
        return door.post({**GOOD, "parameters": {"occurred_at": moment}})

    missing = door.post()
    assert missing.status_code == 400
    assert missing.json()["error"].startswith("parameters.occurred_at: is missing")
    assert at("2013-04-01T05:15:00Z").status_code == 200
    ahead = at("2013-04-02T05:15:01Z")
    assert ahead.status_code == 400
    assert ahead.json()["error"].startswith("parameters.occurred_at: the time is more than")
    assert at("2013-04-02T05:15:00Z").status_code == 200
    assert at("2013-03-01T00:00:00-05:00").status_code == 200
    assert [status for status, *_ in door.outcomes()] == [
        "undecodable", "ok", "undecodable", "ok", "ok",
    ]  # fmt: skip


def test_an_endpoint_that_is_judged_by_entity_needs_it(make_door: MakeDoor) -> None:
    """Without it the row could never be counted."""
    rules = EndpointRules(entity=EntityRule("parameter", 3600))
    door = make_door({"1": models.linear()}, rules)
    answer = door.post()
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("parameters.entity: is missing")
    named = door.post({**GOOD, "parameters": {"entity": "day-1", "attributes": {"a": 1.5}}})
    assert named.status_code == 200
    record = door.records()[-1]
    assert (record.entity, record.attributes) == ("day-1", {"a": 1.5})


def test_the_unit_may_come_as_a_header(door: Door) -> None:
    """A parameter wins over it; both stick to the same version."""
    door.split(v1=5000, v2=5000)
    door.post(headers={"x-unit": "anna"})
    door.post({**GOOD, "parameters": {"unit": "anna"}}, headers={"x-unit": "bert"})
    first, second = door.records()
    assert first.unit_hash == second.unit_hash is not None
    assert first.version == second.version


def test_asked_outputs_must_be_those_of_all_who_may_answer(make_door: MakeDoor) -> None:
    """Else the split would decide which requests are refused, after they had run."""
    contents = {"1": models.linear(), "2": models.constant(output="score")}
    door = make_door(contents, EndpointRules(allow_pinned=True))
    asked = {**GOOD, "outputs": [{"name": "y"}]}
    assert door.post(asked).status_code == 200
    assert door.post(asked, path="/v2/models/demo/versions/2/infer").status_code == 400
    door.split(v1=5000, v2=5000)
    answers = [door.post(asked) for _ in range(8)]
    assert {answer.status_code for answer in answers} == {400}
    assert answers[0].json()["error"].startswith("outputs[0].name")
    assert {door.post().status_code for _ in range(8)} == {200}
