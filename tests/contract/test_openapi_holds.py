"""What `/openapi.json` says is what a real gateway does: generated requests, checked answers.

Rules: the gateway is this module's own, so destructive requests are as welcome as others. The
requests are the same in every run: nothing is drawn by chance. What generates them knows the
document only; here it is given keys, an endpoint that exists and the epoch that it is at.
"""

from __future__ import annotations

import copy
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    missing_required_header,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from gateway.bootstrap.worker import OPERATIONS
from gateway.protocols.labels_http import TAKE_LABELS
from gateway.protocols.openapi import openapi_document
from gateway.protocols.operation import Operation
from tests.serving_process import ServingProcess, start_server
from tests.synthetic_models import constant, write_endpoint

ENDPOINT = "demo"
DOCUMENT = json.loads(openapi_document(OPERATIONS, is_open=False))
_CONFIG = {
    "seed": 1,
    "generation": {"max-examples": 8, "deterministic": True, "no-shrink": True},
    # A change without the epoch it was decided on has a status of its own (RFC 6585).
    "checks": {"missing_required_header": {"expected-statuses": ["428", "4xx"]}},
    "phases": {"stateful": {"enabled": False}},
}
_CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    missing_required_header,
    unsupported_method,
    allow_header_conformance,
]
#: Every level that parameters may be nested multiplies the requests, to no end.
_GENERATED = copy.deepcopy(DOCUMENT)
_GENERATED["components"]["schemas"]["Parameters"] = {"type": "object"}
for media_type in ("application/onnx", "application/x-ndjson"):
    schemathesis.serializer.alias(media_type, "application/octet-stream")
schema = schemathesis.openapi.from_dict(_GENERATED, config=schemathesis.Config.from_dict(_CONFIG))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    """A gateway that is open to nobody, with a champion and two more versions."""
    folder = tmp_path_factory.mktemp("described")
    versions = {str(number): constant(number / 10) for number in (1, 2, 3)}
    write_endpoint(folder / "models", ENDPOINT, versions, {"champion": "1"})
    env = {"AUDITION_OPEN_INFERENCE": "false", "AUDITION_MAX_BODY_BYTES": "65536"}
    server = start_server(folder, folder / "models", workers=1, env=env)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def session(gateway: ServingProcess) -> Iterator[requests.Session]:
    """One connection pool for all requests."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.mark.timeout(600)
@schema.parametrize()
def test_answers_are_as_described(
    case: Case, gateway: ServingProcess, session: requests.Session
) -> None:
    """Statuses, types and schemas of all answers; what is invalid is refused; no fault of ours."""
    headers = _key(case, gateway)
    if case.meta is None or case.meta.generation.mode is GenerationMode.POSITIVE:
        _aim(case, gateway)
    # A bad label is named in the answer, and the others of its request are kept.
    lenient = [negative_data_rejection] if case.path == TAKE_LABELS.path else []
    case.call_and_validate(
        base_url=gateway.url,
        session=session,
        headers=headers,
        checks=[check for check in _CHECKS if check not in lenient],
        timeout=60,
    )


def _key(case: Case, gateway: ServingProcess) -> dict[str, str]:
    """The key of the least role that may do this."""
    security = case.operation.definition.raw.get("security")
    return gateway.authorization(security[0]["key"][0]) if security else {}


def _aim(case: Case, gateway: ServingProcess) -> None:
    """At what exists: a valid request for nothing would only ever be a 404."""
    if "endpoint" in case.path_parameters:
        case.path_parameters["endpoint"] = ENDPOINT
    if "version" in case.path_parameters:
        case.path_parameters["version"] = "2"
    if "If-Match" in (case.headers or {}):
        case.headers["If-Match"] = f'"{gateway.status(ENDPOINT)["epoch"]}"'


def test_the_gateway_serves_this_document(gateway: ServingProcess) -> None:
    """To anybody, as JSON."""
    with gateway.http() as http:
        answer = http.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == DOCUMENT


def _filled(path: str) -> str:
    return path.replace("{endpoint}", ENDPOINT).replace("{version}", "1")


@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_each_path_has_the_methods_that_are_described(gateway: ServingProcess, path: str) -> None:
    """OPTIONS and 405 name them, HEAD is there where GET is; and so on every path alike."""
    described = sorted(method.upper() for method in DOCUMENT["paths"][path])
    operation = next(one for one in OPERATIONS if one.path == path)
    expected = [*described, *(["HEAD"] if "GET" in described else [])]
    with gateway.http(_role(operation)) as http:
        allowed = http.options(_filled(path))
        assert allowed.status_code == 204
        assert allowed.headers["allow"] == ", ".join([*sorted(expected), "OPTIONS"])
        refused = http.patch(_filled(path))
        assert refused.status_code == 405
        assert refused.headers["allow"] == allowed.headers["allow"]
        assert list(refused.json()) == ["error"]
        if "GET" in described:
            head, get = http.head(_filled(path)), http.get(_filled(path))
            assert (head.status_code, head.content) == (get.status_code, b"")
            assert head.headers["content-type"] == get.headers["content-type"]


def _role(operation: Operation) -> str | None:
    return operation.needs


@pytest.mark.parametrize(
    "operation",
    [one for one in OPERATIONS if one.needs is not None],
    ids=lambda one: f"{one.method} {one.path}",
)
def test_nothing_is_done_without_a_key(gateway: ServingProcess, operation: Operation) -> None:
    """401 that says how; a key that is unknown is told the same, or to wait."""
    path = _filled(operation.path)
    with gateway.http() as http:
        missing = http.request(operation.method, path)
        unknown = http.request(operation.method, path, headers={"authorization": "Bearer no"})
    assert (missing.status_code, missing.headers["www-authenticate"]) == (401, "Bearer")
    assert unknown.status_code in (401, 429)
    assert list(missing.json()) == list(unknown.json()) == ["error"]


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/nothing", "/v2x", "/v2/models", "/v2/models/demo/", "/metrics/x"]
)
def test_what_is_nowhere_is_404_in_the_one_form(gateway: ServingProcess, path: str) -> None:
    """Whoever asks, and whatever would have answered there."""
    with gateway.http("view") as http:
        answer = http.get(path)
    assert (answer.status_code, answer.json()) == (404, {"error": f"there is nothing at {path}"})


@pytest.mark.parametrize(("path", "role"), [("/v1/keys", "admin"), ("/v1/labels", "label")])
def test_a_refused_body_is_heard_of(gateway: ServingProcess, path: str, role: str) -> None:
    """413 also for who sends all of it first, on every application alike."""
    much = b" " * (8 << 20)
    host, port = gateway.url.removeprefix("http://").split(":")
    head = [
        f"POST {path} HTTP/1.1",
        "host: x",
        "content-type: application/json",
        f"content-length: {len(much)}",
        *(f"{name}: {value}" for name, value in gateway.authorization(role).items()),
    ]
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + much)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
