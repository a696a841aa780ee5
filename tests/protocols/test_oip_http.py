"""The protocol over HTTP: its routes, and what becomes of every request that is not one."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput

from gateway.core.routes import EndpointRules, EntityRule
from gateway.errors import Forbidden
from gateway.protocols.oip_catalogue import Catalogue
from gateway.protocols.oip_http import InferenceApp
from gateway.protocols.oip_inference import Inference
from gateway.serving.trace import Tracer
from tests import models
from tests.asgi_client import AsgiClient
from tests.serving.pacing import HOUR_MS, LeapingClock, PacedModel
from tests.serving.scenes import Scene

INFER = "/v2/models/demo/infer"
LIMIT_BYTES = 20_000
GOOD = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0, 1, 2]}]}


class Door(Scene):
    """A scene behind the protocol; `rights` is what the caller's key may do."""

    def __init__(self, folder: Path, *arguments: Any, **options: Any) -> None:
        super().__init__(folder, *arguments, **options)
        self.rights = {"infer"}
        self.ready = True
        self.inference = Inference(
            routes=self.routes,
            dataplane=self.dataplane,
            tracer=Tracer(ratio=0, seed=1),
            authorise=self._authorise,
            max_body_bytes=LIMIT_BYTES,
        )
        self.app = InferenceApp(
            catalogue=Catalogue(routes=self.routes, authorise=self._authorise),
            inference=self.inference,
            is_ready=lambda: self.ready,
        )
        self.client = AsgiClient(self.app)

    def _authorise(self, _headers: Any, right: str, endpoint: str) -> str:
        if right not in self.rights:
            raise Forbidden(f"may not {right} {endpoint}")
        return "somebody"

    def get(self, path: str, **options: Any) -> Any:
        """A GET request."""
        return self.client.request("GET", path, **options)

    def post(self, document: Any = GOOD, path: str = INFER, **options: Any) -> Any:
        """An inference request of a JSON document, or of `content` as it is."""
        if "content" not in options:
            options["content"] = json.dumps(document).encode()
        return self.client.request("POST", path, **options)

    def outcomes(self) -> list[tuple[str, str, int]]:
        """Status, exclusion and rows of each record."""
        return [(record.status, record.exclusion, record.rows) for record in self.records()]


MakeDoor = Callable[..., Door]


@pytest.fixture
def make_door(tmp_path: Path) -> Iterator[MakeDoor]:
    """A door per call, closed at the end."""
    made: list[Door] = []

    def make(*arguments: Any, **options: Any) -> Door:
        made.append(Door(tmp_path / str(len(made)), *arguments, **options))
        return made[-1]

    yield make
    for door in made:
        door.close()


@pytest.fixture
def door(make_door: MakeDoor) -> Door:
    """Champion `linear` and, in shadow, `constant`; callers may pin."""
    contents = {"1": models.linear(), "2": models.constant()}
    return make_door(contents, EndpointRules(allow_pinned=True))


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


def _sent(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{**GOOD["inputs"][0], **changes}]}


_X = '{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":%s}]}'
_BAD_DOCUMENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "body"),
    "no JSON": (b"inputs=1", "body"),
    "no object": (b"[1]", "body"),
    "cut off": (json.dumps(GOOD).encode()[:-5], "body"),
    "no UTF-8": (b'{"id":"\xff","inputs":[]}', ""),
    "deep": (b'{"inputs":' + b"[" * 9000 + b"]" * 9000 + b"}", "inputs[0]"),
    "deep data": ((_X % ("[" * 4000 + "0" + "]" * 4000)).encode(), ""),
    "deep parameters": (
        b'{"inputs":[],"parameters":' + b'{"a":' * 3000 + b"1" + b"}" * 3001,
        "",
    ),
    "no inputs": (b"{}", "body: object missing required field inputs"),
    "NaN": ((_X % "[0,1,NaN]").encode(), "inputs[0].data[2]"),
    "null": ((_X % "[0,1,null]").encode(), "inputs[0].data[2]"),
    "Infinity": ((_X % "[0,-Infinity,1]").encode(), "inputs[0].data[1]"),
    "1e999": ((_X % "[0,1,1e999]").encode(), ""),
    "1e39 for FP32": ((_X % "[0,1,1e39]").encode(), "inputs[0].data[2]"),
    "a string": ((_X % '[0,1,"1"]').encode(), "inputs[0].data[2]"),
    "true": ((_X % "[0,1,true]").encode(), "inputs[0].data"),
    "an object": ((_X % "[0,1,{}]").encode(), "inputs[0].data"),
    "lone surrogate": (b'{"inputs":[],"parameters":{"unit":"\\ud800"}}', ""),
}
_BAD_VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "wrong shape": (_sent(shape=[1, 4], data=[0, 1, 2, 3]), "inputs[0].shape"),
    "wrong rank": (_sent(shape=[3]), "inputs[0].shape"),
    "negative dimension": (_sent(shape=[-1, 3]), "inputs[0].shape[0]"),
    "huge dimension": (_sent(shape=[10**30, 3]), "inputs[0].shape[0]"),
    "huge product": (_sent(shape=[2**31 - 1, 3]), "inputs[0].data"),
    "no rows": (_sent(shape=[0, 3], data=[]), "inputs[0].shape[0]"),
    "size is not the product": (_sent(shape=[2, 3]), "inputs[0].data"),
    "wrong dtype": (_sent(datatype="FP64"), "inputs[0].datatype"),
    "unknown dtype": (_sent(datatype="FP8"), "inputs[0].datatype"),
    "unknown input": (_sent(name="z"), "inputs[0].name"),
    "input twice": ({"inputs": GOOD["inputs"] * 2}, "inputs[1].name"),
    "missing input": ({"inputs": []}, "inputs"),
    "no data": (_sent(data=None), "inputs[0].data"),
    "binary without its header": (
        _sent(data=None, parameters={"binary_data_size": 12}),
        "inputs[0].data",
    ),
    "unknown output": ({**GOOD, "outputs": [{"name": "z"}]}, "outputs[0].name"),
    "a time that is none": ({**GOOD, "parameters": {"occurred_at": "noon"}}, "parameters.occurred"),
    "a unit that is none": ({**GOOD, "parameters": {"unit": 5}}, "parameters.unit"),
    "an id with a newline": ({**GOOD, "id": "a\nb"}, "id"),
    "attributes nested": ({**GOOD, "parameters": {"attributes": {"a": [1]}}}, "parameters.attrib"),
}
_BAD = {
    **_BAD_DOCUMENTS,
    **{name: (json.dumps(sent).encode(), field) for name, (sent, field) in _BAD_VALUES.items()},
}


@pytest.fixture(scope="module")
def shared_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One worker that all bad input is sent to, one after the other."""
    door = Door(tmp_path_factory.mktemp("shared"), {"1": models.linear()})
    yield door
    door.close()


@pytest.mark.parametrize("name", _BAD)
def test_bad_input_is_refused_by_its_field_and_is_one_row(shared_door: Door, name: str) -> None:
    """400 with the path of what is wrong, journalled as undecodable; the worker goes on."""
    content, field = _BAD[name]
    before = len(shared_door.records())
    answer = shared_door.post(content=content)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error.startswith(field), error
    assert len(error) < 500
    assert shared_door.post().status_code == 200
    outcomes = shared_door.outcomes()[before:]
    assert outcomes == [("undecodable", "undecodable", 1), ("ok", "", 1)]
    refused = shared_door.records()[before]
    assert refused.error == error
    assert refused.outputs == []


def _binary(data: bytes, *, size: int = 12, length: str | None = None) -> dict[str, Any]:
    head = json.dumps(_sent(data=None, parameters={"binary_data_size": size})).encode()
    head = head.replace(b', "data": null', b"")
    shown = str(len(head)) if length is None else length
    return {"content": head + data, "headers": {"inference-header-content-length": shown}}


def test_raw_tensors_are_taken_and_given(door: Door) -> None:
    """Little-endian, behind the JSON, both ways."""
    sent = _binary(np.array([0, 1, 2], "<f4").tobytes())
    assert door.post(**sent).json()["outputs"][0]["data"] == [8.0]
    answer = door.post({**GOOD, "parameters": {"binary_data_output": True}})
    length = int(answer.headers["inference-header-content-length"])
    head = json.loads(answer.content[:length])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 4}
    assert answer.content[length:] == np.array([8], "<f4").tobytes()


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (_binary(b"\0" * 8), "inputs[0].parameters.binary_data_size"),
        (_binary(b"\0" * 16), "body"),
        (_binary(b"\0" * 8, size=8), "inputs[0].data"),
        (_binary(b"\0" * 12, size=-1), "inputs[0].parameters.binary_data_size"),
        (_binary(np.array([0, 1, np.nan], "<f4").tobytes()), "inputs[0].data"),
        (_binary(np.array([0, 1, np.inf], "<f4").tobytes()), "inputs[0].data"),
        (_binary(b"\0" * 12, length="0"), "Inference-Header-Content-Length"),
        (_binary(b"\0" * 12, length="20000"), "Inference-Header-Content-Length"),
        (_binary(b"\0" * 12, length="-5"), "Inference-Header-Content-Length"),
        (_binary(b"\0" * 12, length="12.0"), "Inference-Header-Content-Length"),
        (_binary(b"\0" * 12, length="9" * 5000), "Inference-Header-Content-Length"),
        (_binary(b"\0" * 12, length="7"), "body"),
        ({"headers": {"x-unit": "u" * 257}}, "x-unit"),
        ({"headers": {"x-unit": ""}}, "x-unit"),
    ],
)
def test_bad_headers_and_raw_tensors_are_refused(
    door: Door, sent: dict[str, Any], field: str
) -> None:
    """Truncated, overlong, not finite, and lengths that do not add up."""
    answer = door.post(**sent)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].startswith(field)
    assert door.outcomes() == [("undecodable", "undecodable", 1)]


def _chunks(total: int) -> Iterator[bytes]:
    for _ in range(total // 1000):
        yield b" " * 1000


@pytest.mark.parametrize(
    ("options", "status", "field"),
    [
        ({"content": b" " * (LIMIT_BYTES + 1)}, 413, "body"),
        ({"content": _chunks(2 * LIMIT_BYTES)}, 413, "body"),
        (
            {
                "content": gzip.compress(b" " * (30 << 20), 1)[:LIMIT_BYTES],
                "headers": {"content-encoding": "gzip"},
            },
            413,
            "body",
        ),
        ({"headers": {"content-encoding": "br"}}, 415, "Content-Encoding"),
        ({"headers": {"content-encoding": "gzip"}}, 400, "body"),
        (
            {"content": b"\x80\x04N.", "headers": {"content-type": "application/x-pickle"}},
            415,
            "Content-Type",
        ),
    ],
)
def test_bodies_that_are_too_much_or_not_spoken_are_refused(
    door: Door, options: dict[str, Any], status: int, field: str
) -> None:
    """Each is a row on record, like every other request that came to nothing."""
    answer = door.post(**options)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"].startswith(field)
    assert door.outcomes() == [("undecodable", "undecodable", 1)]
    assert door.post().status_code == 200


def test_the_limit_holds_on_the_short_way_too(door: Door) -> None:
    """A body over it goes the long way, where it is refused and recorded."""
    target = door.inference.target(INFER)
    assert target is not None
    body = json.dumps(GOOD).encode()
    assert door.inference.answer_now(target, {}, body + b" " * LIMIT_BYTES) is None
    assert door.records() == []
    found = door.inference.answer_now(target, {}, body)
    assert found is not None
    assert found.status == 200


def test_chunked_and_compressed_bodies_are_read(door: Door) -> None:
    """As public clients send them."""
    body = json.dumps(GOOD).encode()
    pieces = iter([body[:10], body[10:20], body[20:]])
    assert door.post(content=pieces).status_code == 200
    for name, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        assert door.post(content=packed, headers={"content-encoding": name}).status_code == 200
    assert {status for status, *_ in door.outcomes()} == {"ok"}


def test_pickles_are_refused_on_every_route(door: Door) -> None:
    """Also on those that read no body."""
    pickled = {"content-type": "application/vnd.bentoml+pickle"}
    for path in ("/v2", "/v2/health/live", "/v2/models/demo", "/v2/nowhere"):
        assert door.get(path, headers=pickled).status_code == 415


def test_a_client_that_hangs_up_leaves_no_record(door: Door) -> None:
    """Its body never came: nothing was accepted, and nobody is answered."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": INFER, "headers": []}
    asyncio.run(door.app(scope, receive, send))
    assert sent == []
    assert door.records() == []


def test_rows_are_what_dimension_0_says(make_door: MakeDoor) -> None:
    """For a model of fixed dimensions a request is one row."""
    batch = {
        "inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [[0, 1, 2]] * 2}]
    }
    many, single = make_door({"1": models.linear()}), make_door({"1": models.one_row_only()})
    assert many.post(batch).json()["outputs"][0]["data"] == [8.0, 8.0]
    assert many.outcomes() == [("ok", "", 2)]
    assert single.post(batch).status_code == 400
    assert single.post().status_code == 200
    assert [rows for *_, rows in single.outcomes()] == [1, 1]


@pytest.mark.parametrize(
    ("content", "status", "outcome"),
    [
        (models.constant(float("nan")), 502, ("nonfinite", "", 1)),
        (models.constant(float("inf")), 502, ("nonfinite", "", 1)),
    ],
)
def test_a_model_that_gives_no_number_is_a_502(
    make_door: MakeDoor, content: bytes, status: int, outcome: tuple[str, str, int]
) -> None:
    """Journalled, never a 200 with null."""
    door = make_door({"1": content})
    answer = door.post()
    assert answer.status_code == status
    assert "NaN or infinity in output y" in answer.json()["error"]
    assert door.outcomes() == [outcome]


def test_a_model_over_its_time_limit_is_a_504(make_door: MakeDoor) -> None:
    """Journalled as timed out, and the next request is answered."""
    door = make_door(
        {"1": models.loop_while_positive()},
        EndpointRules(time_limit_ms=HOUR_MS),
        is_inline=False,
        threads=1,
    )
    clock, model = LeapingClock(), PacedModel(door.table.versions["1"])

    async def outlast() -> Any:
        asked = asyncio.ensure_future(door.client.send("POST", INFER, json=GOOD))
        await model.begun()
        clock.pass_an_hour()
        return await asked

    assert clock.run(outlast()).status_code == 504
    assert door.post(_sent(data=[0, 0, 0])).status_code == 200
    assert door.outcomes() == [("timed_out", "", 1), ("ok", "", 1)]


def test_overload_is_a_503_that_says_when_to_try_again(make_door: MakeDoor) -> None:
    """With Retry-After, journalled and excluded."""
    door = make_door(
        {"1": models.linear()},
        EndpointRules(time_limit_ms=HOUR_MS),
        is_inline=False,
        threads=1,
        waiting=0,
    )
    model = PacedModel(door.table.versions["1"])
    model.hold()
    slow = threading.Thread(target=door.post)
    slow.start()
    model.await_begun()
    answer = door.post()
    model.release()
    slow.join()
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert door.outcomes() == [("overloaded", "overload", 1), ("ok", "", 1)]


def test_without_a_journal_there_is_no_answer(door: Door) -> None:
    """503, also for what would have been a 400: no outcome may go unrecorded."""
    door.journal.problem = "the disk is full"
    for answer in (door.post(), door.post(content=b"bad")):
        assert (answer.status_code, answer.json()) == (503, {"error": "the disk is full"})
    assert door.records() == []


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


def test_missing_values_pass_where_they_are_allowed(make_door: MakeDoor) -> None:
    """JSON null becomes NaN for the model, for the declared input only."""
    sent = _sent(shape=[1, 2], data=[None, 1])
    door = make_door({"1": models.identity("FP32")}, EndpointRules(allow_missing=("x",)))
    answer = door.post(sent)
    assert answer.status_code == 502, "the identity of NaN is no number"
    assert np.isnan(np.frombuffer(door.records()[0].inputs[0].data, "<f4")[0])
    strict = make_door({"1": models.identity("FP32")})
    assert strict.post(sent).status_code == 400


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


def test_every_request_has_one_record_and_one_id(door: Door) -> None:
    """Good and bad ones, and none is left half-written."""
    for name in list(_BAD)[:12]:
        door.post(content=_BAD[name][0])
        door.post()
    records = door.records()
    assert len(records) == 24 == len({record.prediction_id for record in records})
    assert [record.accepted_rows for record in records] == list(range(1, 25))


@pytest.mark.parametrize("datatype", models.ONNX_TYPES)
def test_the_public_clients_tensors_come_back(make_door: MakeDoor, datatype: str) -> None:
    """What tritonclient packs, in every datatype, it unpacks the same from our answer."""
    door = make_door({"1": models.identity(datatype)})
    kind = {"BYTES": np.object_, "FP16": np.float16}.get(datatype)
    fed = np.array([[b"a", "ü".encode()]], dtype=object) if datatype == "BYTES" else None
    if fed is None:
        spec = door.table.inputs["x"]
        fed = np.array([[0, 1]]).astype(kind or spec.kind.dtype)
    tensor = InferInput("x", [1, 2], datatype)
    tensor.set_data_from_numpy(fed)
    body, length = InferenceServerClient.generate_request_body([tensor])
    headers = {"inference-header-content-length": str(length)} if length else {}
    answer = door.post(content=bytes(body), headers=headers)
    assert answer.status_code == 200, answer.text
    result = InferenceServerClient.parse_response_body(
        answer.content, header_length=_length(answer)
    )
    assert result.as_numpy("y").tolist() == fed.tolist()


def _length(answer: Any) -> int | None:
    found = answer.headers.get("inference-header-content-length")
    return None if found is None else int(found)
