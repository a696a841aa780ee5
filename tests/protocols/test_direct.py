"""The short way answers what the long way answers, and leaves to it all that is not ordinary."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from uvicorn.config import HTTP_PROTOCOLS

from gateway.core.routes import EndpointRules
from gateway.protocols import direct
from gateway.protocols.direct import DIRECT_BYTES, DirectProtocol
from gateway.protocols.oip_inference import Inference, Target
from tests import models
from tests.protocols.door import GOOD, INFER, Door
from tests.serving_process import PATIENCE_S, eventually

CONTENT = json.dumps(GOOD).encode()


class Site:
    """A door behind a real server on a socket; `short` counts what went the short way."""

    def __init__(self, folder: Path, rules: EndpointRules | None = None) -> None:
        self.door = Door(folder, {"1": models.linear()}, rules or EndpointRules())
        self.short = 0
        self.lengthy = 0
        site = self

        class Counting(Inference):
            def answer_now(self, target: Target, headers, body):  # type: ignore[no-untyped-def]
                response = super().answer_now(target, headers, body)
                site.short += response is not None
                return response

        class Protocol(DirectProtocol):
            inference = site.door.inference

        site.door.inference.__class__ = Counting
        config = uvicorn.Config(
            self._counted,
            http=Protocol,
            port=0,
            log_level="critical",
            lifespan="off",
            timeout_keep_alive=60,
            interface="asgi3",
        )
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run)
        self._thread.start()
        eventually(lambda: self.server.started)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    async def _counted(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        self.lengthy += 1
        await self.door.app(scope, receive, send)

    def close(self) -> None:
        """Stop the server."""
        self.server.should_exit = True
        self._thread.join(30)
        self.door.close()

    def talk(self, *pieces: bytes, answers: int = 1) -> list[bytes]:
        """Send the pieces one by one; the whole answers."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            for piece in pieces:
                connection.sendall(piece)
            reader = connection.makefile("rb")
            return [_answer(reader) for _ in range(answers)]


def _answer(reader) -> bytes:  # type: ignore[no-untyped-def]
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline()
        assert line, f"the server hung up after {head!r}"
        head += line
    if head.startswith(b"HTTP/1.1 100"):
        return head + _answer(reader)
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + bytes(reader.read(length))


def request(
    content: bytes = CONTENT, *headers: str, path: str = INFER, method: str = "POST"
) -> bytes:
    """An ordinary request, with more headers."""
    lines = [f"{method} {path} HTTP/1.1", "host: x", f"content-length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """A site a call, closed at the end."""
    made: list[Site] = []

    def make(rules: EndpointRules | None = None) -> Site:
        made.append(Site(tmp_path / str(len(made)), rules))
        return made[-1]

    yield make
    for site in made:
        site.close()


def _comparable(answer: bytes) -> tuple[bytes, dict[bytes, bytes], dict[str, object]]:
    """The parts of an answer that do not depend on when it was given."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    for name in (b"date", b"x-prediction-id", b"traceparent", b"server"):
        headers.pop(name, None)
    document = json.loads(body)
    document.get("parameters", {}).pop("prediction_id", None)
    return status, headers, document


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (CONTENT, ()),
        (json.dumps({**GOOD, "id": "mine"}).encode(), ("content-type: application/json",)),
        (b"{", ()),
        (b"", ()),
        (b'{"inputs":[{"name":"y","shape":[1],"datatype":"FP32","data":[1]}]}', ()),
        (CONTENT, ("content-type: application/vnd.bentoml+pickle",)),
        (CONTENT, ("inference-header-content-length: x",)),
        (CONTENT, ("x-unit:",)),
    ],
)
def test_both_ways_answer_the_same(
    make_site: Callable[..., Site], content: bytes, headers: tuple[str, ...]
) -> None:
    """Status, headers and document; a connection that closes takes the long way."""
    site = make_site()
    (short,) = site.talk(request(content, *headers))
    assert (site.short, site.lengthy) == (1, 0)
    (lengthy,) = site.talk(request(content, *headers, "connection: close"))
    assert (site.short, site.lengthy) == (1, 1)
    status, answered, document = _comparable(lengthy)
    answered.pop(b"connection", None)
    assert _comparable(short) == (status, answered, document)
    first, second = site.door.outcomes()
    assert first == second


def test_what_is_not_ordinary_goes_the_long_way(make_site: Callable[..., Site]) -> None:
    """Expectations, chunks, compression, long bodies, other methods: each is answered."""
    site = make_site()
    chunked = f"POST {INFER} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    chunked += b"%x\r\n%s\r\n0\r\n\r\n" % (len(CONTENT), CONTENT)
    for sent in (
        request(CONTENT, "expect: 100-continue"),
        chunked,
        request(CONTENT + b" " * DIRECT_BYTES),
        request(b"", method="GET"),
        request(b"", path="/v2/models/nobody/infer"),
    ):
        (answer,) = site.talk(sent)
        assert answer.startswith(b"HTTP/1.1 ")
    assert (site.short, site.lengthy) == (0, 5)


def test_a_request_may_come_in_pieces(make_site: Callable[..., Site]) -> None:
    """One byte at a time, and the next request on the same connection."""
    site = make_site()
    pieces = [bytes([byte]) for byte in request()]
    first, second = site.talk(*pieces, request(), answers=2)
    assert first.startswith(b"HTTP/1.1 200")
    assert second.startswith(b"HTTP/1.1 200")
    assert site.short == 2


def test_pipelined_requests_are_answered_in_order(make_site: Callable[..., Site]) -> None:
    """Also when one in the middle takes the long way: nobody may overtake it."""
    site = make_site()
    ids = ["a", "b", "c", "d"]
    requests = [
        request(
            json.dumps({**GOOD, "id": one}).encode(),
            *(["expect: 100-continue"] if one == "b" else []),
        )
        for one in ids
    ]
    answers = site.talk(b"".join(requests), answers=4)
    bodies = [json.loads(answer.rpartition(b"\r\n\r\n")[2]) for answer in answers]
    assert [body["id"] for body in bodies] == ids


def test_an_answer_asked_for_packed_is_made_once_and_sent_in_order(
    make_site: Callable[..., Site],
) -> None:
    """It is run the short way and packed by a task; who comes after it waits for it."""
    site = make_site()
    long_id, rows = "a" * 200, 400
    many = [{**GOOD["inputs"][0], "shape": [rows, 3], "data": [0, 1, 2] * rows}]
    content = json.dumps({"id": long_id, "inputs": many}).encode()
    asks = "accept-encoding: gzip"
    first, second, third = site.talk(
        request(content, asks) + request(CONTENT, asks) + request(content), answers=3
    )
    head, _, body = first.partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head and b"vary: accept-encoding" in head
    unpacked = json.loads(gzip.decompress(body))
    assert unpacked["id"] == long_id and unpacked["outputs"][0]["data"] == [8.0] * rows
    for plain in (second, third):
        assert b"content-encoding" not in plain
        assert plain.startswith(b"HTTP/1.1 200")
    assert len(site.door.records()) == 3


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_both_ways_pack_the_same(make_site: Callable[..., Site], coding: str) -> None:
    """The task that packs a finished answer, and the long way from its beginning."""
    site = make_site()
    asks = f"accept-encoding: {coding}, identity;q=0"
    (short,) = site.talk(request(CONTENT, asks))
    assert (site.short, site.lengthy) == (1, 1)
    (lengthy,) = site.talk(request(CONTENT, asks, "connection: close"))
    for answer in (short, lengthy):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert f"content-encoding: {coding}".encode() in head
        plain = gzip.decompress(body) if coding == "gzip" else zlib.decompress(body)
        assert json.loads(plain)["outputs"][0]["data"] == [8.0]
    assert len(site.door.records()) == 2


def test_an_answer_that_waits_for_the_disk_goes_the_long_way(
    make_site: Callable[..., Site],
) -> None:
    """Nothing is done twice: one record."""
    site = make_site(EndpointRules(durability="disk"))
    (answer,) = site.talk(request())
    assert answer.startswith(b"HTTP/1.1 200")
    assert (site.short, site.lengthy) == (0, 1)
    assert len(site.door.records()) == 1


def test_a_model_that_runs_in_threads_goes_the_long_way(make_site: Callable[..., Site]) -> None:
    """It is decoded twice and journalled once."""
    site = make_site()
    site.door.table.versions["1"].inline = False
    (answer,) = site.talk(request())
    assert answer.startswith(b"HTTP/1.1 200")
    assert (site.short, site.lengthy) == (0, 1)
    assert len(site.door.records()) == 1


def test_a_fault_of_ours_is_a_500(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection lives on."""
    site = make_site()

    def fail(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(type(site.door.inference), "answer_now", fail)
    first, second = site.talk(request(), request(), answers=2)
    assert first.startswith(b"HTTP/1.1 500")
    assert second.startswith(b"HTTP/1.1 500")
    assert b"boom" not in first


@pytest.mark.parametrize("last", ["short", "long"])
def test_a_connection_that_rests_is_closed(make_site: Callable[..., Site], last: str) -> None:
    """Whichever way its last request went; the client sees the end, not an error."""
    site = make_site()
    short, lengthy = request(), request(b"", method="GET", path="/v2/health/live")
    first, others = (short, [lengthy]) if last == "long" else (lengthy, [short, short])
    with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE_S) as connection:
        reader = connection.makefile("rb")
        connection.sendall(first)
        assert _answer(reader).startswith(b"HTTP/1.1 200")
        # Now it may rest for a second only, but what comes next comes at once.
        (served,) = site.server.server_state.connections
        served.timeout_keep_alive = 1
        connection.sendall(b"".join(others))
        for _ in others:
            assert _answer(reader).startswith(b"HTTP/1.1 200")
        assert reader.read() == b""
    assert (site.short, site.lengthy) == ((1, 1) if last == "long" else (2, 1))


def test_install_reaches_the_servers_own_choice(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host configures uvicorn itself, so it must find the protocol under `auto`."""
    site = make_site()
    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", HTTP_PROTOCOLS["auto"])
    monkeypatch.setattr(DirectProtocol, "inference", None)
    direct.install(site.door.inference)
    config = uvicorn.Config(site.door.app)
    config.load()
    assert config.http_protocol_class is DirectProtocol
    assert DirectProtocol.inference is site.door.inference
