"""The front door: which application answers which path, and what none of them answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.errors import StoreUnavailable, Unauthenticated
from gateway.protocols.app import Routed, without_pickles
from gateway.protocols.asgi import Application, send_json
from tests.asgi_client import AsgiClient

PICKLE = {"content-type": "application/vnd.bentoml+pickle"}


class Site:
    """Applications that say their own name, behind the front door."""

    def __init__(self) -> None:
        self.ready = True
        self.failure: Exception | None = None
        self.metrics_are_open = True
        routed = Routed(
            inference=_named("inference"),
            labels=_named("labels"),
            admin=self._admin,
            metrics=_named("metrics"),
            authorise_metrics=self._authorise,
            is_ready=lambda: self.ready,
            openapi=lambda: b'{"openapi":"3.1.0"}',
        )
        self.routed = routed
        self._client = AsgiClient(routed)

    async def _admin(self, scope: Any, receive: Any, send: Any) -> None:
        if self.failure is not None:
            raise self.failure
        await _named("admin")(scope, receive, send)

    def _authorise(self, _headers: Any) -> str:
        if not self.metrics_are_open:
            raise Unauthenticated("send a key")
        return ""

    def get(self, path: str, **options: Any) -> Any:
        """A GET request."""
        return self._client.request("GET", path, **options)


def _named(name: str) -> Application:
    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await send_json(send, 200, {"by": name})

    return application


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v2", "inference"),
        ("/v2/models/demo/infer", "inference"),
        ("/v2/health/ready", "inference"),
        ("/v1/labels", "labels"),
        ("/v1/endpoints", "admin"),
        ("/v1/labels/more", "admin"),
        ("/metrics", "metrics"),
    ],
)
def test_each_path_has_one_application(path: str, name: str) -> None:
    """Labels are apart from the operators' API, because their key is."""
    assert Site().get(path).json() == {"by": name}


@pytest.mark.parametrize("path", ["/v1", "/livez/", "/readyz/x", "/admin", "/metrics/", "/..", "/"])
def test_anything_else_is_not_there(path: str) -> None:
    """Also what the host behind us would answer: only its metrics are let through."""
    answer = Site().get(path)
    assert answer.status_code == 404
    assert answer.json()["error"].startswith("there is nothing at /")


def test_a_long_path_is_not_repeated_in_full() -> None:
    """What a client sends must not blow an answer up."""
    assert len(Site().get("/x" * 5000).json()["error"]) < 300


def test_liveness_is_no_readiness() -> None:
    """A worker that must not get traffic is alive all the same, and nobody restarts it."""
    site = Site()
    assert site.get("/livez").json() == {"live": True}
    assert site.get("/readyz").json() == {"ready": True}
    site.ready = False
    assert site.get("/livez").status_code == 200
    answer = site.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"ready": False})


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/openapi.json"])
def test_what_is_read_is_not_written(path: str) -> None:
    """HEAD as GET; OPTIONS names the methods, and any other is 405 with the same."""
    site = Site()
    assert site._client.request("HEAD", path).status_code == 200
    allowed = site._client.request("OPTIONS", path)
    assert (allowed.status_code, allowed.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    refused = site._client.request("DELETE", path)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert refused.json() == {"error": "use GET, HEAD, OPTIONS here"}


def test_a_fault_of_ours_says_nothing_of_its_inside() -> None:
    """500 in the form of every other error; the log has the rest."""
    site = Site()
    site.failure = ValueError("secret")
    answer = site.get("/v1/endpoints")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})


def test_metrics_are_asked_for_with_a_key() -> None:
    """Before the host's application sees the request."""
    site = Site()
    site.metrics_are_open = False
    answer = site.get("/metrics")
    assert (answer.status_code, answer.json()) == (401, {"error": "send a key"})


@pytest.mark.parametrize("path", ["/v1/labels", "/v1/endpoints", "/livez", "/readyz", "/metrics"])
def test_pickles_are_refused_on_every_route(path: str) -> None:
    """415 on every one that is not the protocol's, which refuses them itself."""
    answer = Site().get(path, headers=PICKLE)
    assert answer.status_code == 415
    assert answer.json()["error"].startswith("Content-Type: pickles are never read")


def test_an_error_of_an_application_keeps_its_form() -> None:
    """`{"error": …}` with its status, whichever application it came from."""
    site = Site()
    site.failure = StoreUnavailable("the control store cannot be reached")
    answer = site.get("/v1/endpoints")
    assert (answer.status_code, answer.json()) == (
        503,
        {"error": "the control store cannot be reached"},
    )


def test_the_hosts_own_application_refuses_pickles_too() -> None:
    """In a process that has no routes of ours; all else goes through to it."""
    client = AsgiClient(without_pickles(_named("host")))
    assert client.request("POST", "/anything", headers=PICKLE).status_code == 415
    assert client.request("POST", "/anything").json() == {"by": "host"}


def test_a_web_socket_is_turned_away() -> None:
    """There is none here, and a handshake is no fault that fills the log."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/v2/models/demo/infer", "headers": []}
    asyncio.run(Site().routed(scope, receive, send))
    assert sent == [{"type": "websocket.close"}]
