"""Reading a body within bounds, and errors in the one form that public clients understand."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import pytest

from gateway import errors
from gateway.errors import (
    AuditionError,
    BodyTooLarge,
    InvalidInput,
    ModelTimedOut,
    Overloaded,
    Unauthenticated,
    UnsupportedEncoding,
)
from gateway.protocols.asgi import (
    ClientGone,
    number_in,
    read_body,
    refuse_pickles,
    send_error,
    status_of,
)

LIMIT = 1000


class Wire:
    """What a server hands an application: chunks of a body, counted as they are taken."""

    def __init__(self, *chunks: bytes, then_gone: bool = False) -> None:
        self._chunks = list(chunks)
        self._then_gone = then_gone
        self.taken_bytes = 0

    async def receive(self) -> dict[str, Any]:
        """The next message."""
        if not self._chunks:
            assert self._then_gone, "asked for more than there is"
            return {"type": "http.disconnect"}
        chunk = self._chunks.pop(0)
        self.taken_bytes += len(chunk)
        more = bool(self._chunks) or self._then_gone
        return {"type": "http.request", "body": chunk, "more_body": more}


def _read(wire: Wire, **headers: str) -> bytes:
    raw = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return asyncio.run(read_body(wire.receive, raw, limit_bytes=LIMIT))


def test_a_body_in_one_piece_or_many_is_the_same() -> None:
    """Chunked transfer is put together; an empty body is one too."""
    assert _read(Wire(b"abc")) == b"abc"
    assert _read(Wire(b"a", b"", b"bc")) == b"abc"
    assert _read(Wire(b"")) == b""


def test_a_body_at_the_limit_is_the_largest() -> None:
    """One byte more is refused, in one piece or in chunks."""
    assert len(_read(Wire(b"x" * LIMIT))) == LIMIT
    assert len(_read(Wire(b"x" * 600, b"x" * 400))) == LIMIT
    for chunks in ((b"x" * (LIMIT + 1),), (b"x" * 600, b"x" * 401)):
        with pytest.raises(BodyTooLarge, match="body: more than 1000 bytes"):
            _read(Wire(*chunks))


def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    """Nothing is buffered of what is known to be too much."""
    wire = Wire(b"x" * 5000)
    with pytest.raises(BodyTooLarge):
        _read(wire, content_length="5000")
    assert wire.taken_bytes == 0


def test_an_undeclared_body_is_not_read_far_past_the_limit() -> None:
    """Chunks without end are cut off one chunk past it, whatever was declared."""
    for declared in ("", "12", "9" * 5000, "-1", "many"):
        wire = Wire(*[b"x" * 100] * 1000)
        with pytest.raises(BodyTooLarge):
            _read(wire, content_length=declared)
        assert wire.taken_bytes <= LIMIT + 100


def test_a_client_that_hangs_up_is_told_apart() -> None:
    """Before the first byte and in the middle: nobody is there to be answered."""
    for wire in (Wire(then_gone=True), Wire(b"abc", then_gone=True)):
        with pytest.raises(ClientGone):
            _read(wire)


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "application/x-ndjson",
    ],
)
def test_clients_name_json_in_many_ways(media_type: str) -> None:
    """tritonclient names nothing, `curl -d` a form."""
    assert _read(Wire(b"{}"), content_type=media_type) == b"{}"


@pytest.mark.parametrize(
    "media_type",
    ["application/vnd.bentoml+pickle", "application/python-pickle", "text/html", "multipart/mixed"],
)
def test_other_media_types_are_refused_unread(media_type: str) -> None:
    """With the header's name."""
    wire = Wire(b"\x80\x04.")
    with pytest.raises(UnsupportedEncoding, match="Content-Type"):
        _read(wire, content_type=media_type)
    assert wire.taken_bytes == 0


@pytest.mark.parametrize(
    "media_type", [b"application/vnd.bentoml+pickle", b"Application/X-PICKLE; a=b"]
)
def test_pickles_are_refused_where_no_body_is_read_too(media_type: bytes) -> None:
    """However the letters are written; other types pass."""
    with pytest.raises(UnsupportedEncoding, match="pickles are never read"):
        refuse_pickles({b"content-type": media_type})
    refuse_pickles({b"content-type": b"text/html"})
    refuse_pickles({})


@pytest.mark.parametrize("encoding", ["gzip", "GZIP ", "deflate", "identity", ""])
def test_public_clients_compress(encoding: str) -> None:
    """gzip and deflate, or say that they did not."""
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}
    body = packed.get(encoding.strip().lower(), bytes)(b"{}" * 50)
    assert _read(Wire(body), content_encoding=encoding) == b"{}" * 50


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x" * 5000])
def test_an_unknown_encoding_is_refused_by_its_name(encoding: str) -> None:
    """Cut short, because it goes into a message."""
    with pytest.raises(UnsupportedEncoding, match="Content-Encoding: ") as refused:
        _read(Wire(b"{}"), content_encoding=encoding)
    assert len(str(refused.value)) < 150


def test_a_header_that_is_no_number_is_none() -> None:
    """Also one with more digits than Python converts."""
    assert [number_in(value) for value in (b"0", b"17", b"9" * 19)] == [0, 17, 10**19 - 1]
    for value in (b"", b"-1", b"1.0", b"0x10", b" 1", b"9" * 20, b"9" * 5000, "٣".encode()):
        assert number_in(value) is None


#: What no request can meet: the root, and errors of files and of the command line.
_ELSEWHERE = {"AuditionError", "CorruptJournal", "CorruptArchive", "Unreachable"}


def _of_requests() -> list[type[AuditionError]]:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [
        kind
        for kind in kinds
        if issubclass(kind, AuditionError) and kind.__name__ not in _ELSEWHERE
    ]


@pytest.mark.parametrize("kind", _of_requests())
def test_every_error_that_a_request_can_meet_has_a_status(kind: type[AuditionError]) -> None:
    """By itself or by the error that it is a kind of."""
    takes_field = issubclass(kind, InvalidInput)
    error = kind("field", "message") if takes_field else kind("message")
    assert 400 <= status_of(error) < 600


def _answer(error: AuditionError) -> tuple[int, dict[str, str], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(send_error(send, error))
    start, body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, body["body"]


def test_an_error_says_what_and_when_to_try_again() -> None:
    """`{"error": …}` always; Retry-After, the scheme or a closed connection where they are due."""
    status, headers, body = _answer(Overloaded("full", retry_after_s=7))
    assert (status, headers["retry-after"], body) == (503, "7", b'{"error":"full"}')
    assert headers["content-length"] == str(len(body))
    assert _answer(Unauthenticated("no"))[1]["www-authenticate"] == "Bearer"
    assert _answer(BodyTooLarge("body", "big"))[:1] == (413,)
    assert _answer(BodyTooLarge("body", "big"))[1]["connection"] == "close"
    assert _answer(ModelTimedOut("slow"))[0] == 504
    assert _answer(InvalidInput("a", "b"))[2] == b'{"error":"a: b"}'
