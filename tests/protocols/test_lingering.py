"""An early refusal arrives, however much of the request is still under way."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.protocols import lingering
from tests.protocols.door import INFER, LIMIT_BYTES
from tests.protocols.test_direct import Site, request

#: More than the buffers of both ends hold, so that it cannot be sent unless it is read.
MUCH = 24 << 20
_PIECE = b"x" * (64 << 10)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A real server whose bodies may have 20,000 bytes."""
    site = Site(tmp_path)
    yield site
    site.close()


def _all_of(connection: socket.socket) -> bytes:
    """What comes until the server ends."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def _head(*headers: str) -> bytes:
    return "\r\n".join([f"POST {INFER} HTTP/1.1", "host: x", *headers, "", ""]).encode()


def _declared(connection: socket.socket) -> None:
    connection.sendall(_head(f"content-length: {MUCH}"))
    for _ in range(MUCH // len(_PIECE)):
        connection.sendall(_PIECE)


def _chunked(connection: socket.socket) -> None:
    connection.sendall(_head("transfer-encoding: chunked"))
    for _ in range(MUCH // len(_PIECE)):
        connection.sendall(b"%x\r\n%b\r\n" % (len(_PIECE), _PIECE))
    connection.sendall(b"0\r\n\r\n")


@pytest.mark.parametrize("send", [_declared, _chunked])
def test_who_sends_all_before_reading_gets_the_413(
    site: Site, send: Callable[[socket.socket], None]
) -> None:
    """And after it the end of the connection, not a reset."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=60) as connection:
        send(connection)
        answer = _all_of(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ") and b"\r\nconnection: close" in head
    assert f"more than {LIMIT_BYTES} bytes".encode() in body


def test_a_declared_length_is_refused_before_the_body(site: Site) -> None:
    """With and without asking first: no 100 Continue is said to what will not be taken."""
    for headers in ((), ("expect: 100-continue",)):
        with socket.create_connection(("127.0.0.1", site.port), timeout=60) as connection:
            connection.sendall(_head(f"content-length: {MUCH}", *headers))
            assert _all_of(connection).startswith(b"HTTP/1.1 413 ")


def test_what_is_within_the_limit_is_asked_for(site: Site) -> None:
    """100 Continue, the body, the answer; and the connection is good for another request."""
    whole = request()
    body = whole.partition(b"\r\n\r\n")[2]
    asked = _head(f"content-length: {len(body)}", "expect: 100-continue")
    first, second = site.talk(asked, body, whole, answers=2)
    assert first.startswith(b"HTTP/1.1 100 ") and b"HTTP/1.1 200 " in first
    assert second.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("name", "bound"), [("LINGER_BYTES", 1 << 20), ("LINGER_S", 0.2)])
def test_nobody_is_listened_to_for_ever(
    site: Site, monkeypatch: pytest.MonkeyPatch, name: str, bound: float
) -> None:
    """After so many bytes, or so long, the connection is cut."""
    monkeypatch.setattr(lingering, name, bound)
    with socket.create_connection(("127.0.0.1", site.port), timeout=60) as connection:
        connection.sendall(_head(f"content-length: {1 << 40}"))
        with pytest.raises(ConnectionError):
            while True:
                connection.sendall(_PIECE)


def test_what_is_no_http_is_told_so_in_our_form(site: Site) -> None:
    """400 with the error as JSON, also if more than one packet of it was sent."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=60) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        for _ in range(64):
            connection.sendall(_PIECE)
        connection.shutdown(socket.SHUT_WR)
        head, _, body = _all_of(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"content-type: application/json" in head
    assert body == b'{"error":"Invalid HTTP request received."}'
