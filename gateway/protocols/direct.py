"""The shortest way from the socket to an answer, for runs that need no waiting.

An ASGI server makes a task, an event and a response cycle for each request and writes head
and body to the socket one by one; for a model of a few microseconds that is most of the cost.
This protocol hands an ordinary small POST to the inference core as soon as its last byte is
there and writes the whole answer at once. Everything else, from a slow model to a request
that expects 100-continue, goes on to the server's own way, which answers the same.
"""

from __future__ import annotations

import logging
from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import ClassVar, cast

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.errors import InvalidInput
from gateway.protocols.asgi import (
    ANSWERED,
    Headers,
    Response,
    error_response,
    is_asked_packed,
    number_in,
)
from gateway.protocols.lingering import LingeringTransport, linger
from gateway.protocols.oip_inference import Inference, Target

#: A larger body is worth a task of its own, and is read within the server's flow control.
DIRECT_BYTES = 64 << 10

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}
_FAILED = Response(500, [(b"content-type", b"application/json")], b'{"error":"internal error"}')
_logger = logging.getLogger(__name__)


def install(inference: Inference) -> None:
    """Make the server of this process use this protocol; before the server is configured."""
    DirectProtocol.inference = inference
    HTTP_PROTOCOLS["auto"] = f"{__name__}:DirectProtocol"


class DirectProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the short way in front. `inference` None: only the long way."""

    inference: ClassVar[Inference | None] = None
    _target: Target | None = None
    _body = b""
    _fields: Headers
    _rested_at = 0.0
    _idle_timer: TimerHandle | None = None

    def on_message_begin(self) -> None:
        """A request begins; what the long way needs is made when it is taken."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Decide which way the request goes."""
        self._target = self._find_target()
        self._body = b""
        if self._target is None:
            self._go_the_long_way()

    def on_body(self, body: bytes) -> None:
        """Keep what came; it is small, because its length was declared."""
        if self._target is None:
            super().on_body(body)
        else:
            self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        """Answer, if that needs no waiting."""
        target, self._target = self._target, None
        if target is None:
            super().on_message_complete()
            return
        response = self._answer(target)
        if response is None:
            self._go_the_long_way()
            super().on_body(self._body)
            super().on_message_complete()
        elif is_asked_packed(self._fields, response):
            # Packing may take longer than the model did: a task sends what is answered already.
            self._go_the_long_way()
            self.scope[ANSWERED] = response  # type: ignore[literal-required]
            super().on_message_complete()
        else:
            self.transport.write(_written(response, self.server_state.default_headers))
            self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is to be waited for any more."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def _rest(self) -> None:
        # The server arms a timer for each answer and cancels it at the next request. Here one
        # timer looks now and then whether there was another request.
        self.server_state.total_requests += 1
        self._rested_at = self.loop.time()
        if self._idle_timer is None and not self.transport.is_closing():
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def _close_if_idle(self) -> None:
        is_busy = self.cycle is not None and not self.cycle.response_complete
        left_s = self._rested_at + self.timeout_keep_alive - self.loop.time()
        if left_s <= 0 and not is_busy and self._target is None:
            self.timeout_keep_alive_handler()
        else:
            wait_s = left_s if left_s > 0 else self.timeout_keep_alive
            self._idle_timer = self.loop.call_later(wait_s, self._close_if_idle)

    def _find_target(self) -> Target | None:
        inference, parser = self.inference, self.parser
        if inference is None or parser.get_method() != b"POST" or self.flow.write_paused:
            return None
        is_busy = self.cycle is not None and not self.cycle.response_complete
        if is_busy or self.expect_100_continue or not parser.should_keep_alive():
            return None
        if parser.should_upgrade() or self.limit_concurrency is not None:
            return None
        self._fields = headers = dict(self.headers)
        length = number_in(headers.get(b"content-length", b""))
        if length is None or length > DIRECT_BYTES or b"content-encoding" in headers:
            return None
        return inference.target(self.url.decode("latin-1"))

    def _answer(self, target: Target) -> Response | None:
        assert self.inference is not None
        try:
            return self.inference.answer_now(target, self._fields, self._body)
        except Exception:  # as the server does with what an application raises
            _logger.exception("an inference request failed")
            return _FAILED

    def _go_the_long_way(self) -> None:
        url, expects, headers = self.url, self.expect_100_continue, self.headers
        super().on_message_begin()
        self.url, self.expect_100_continue, self.headers = url, expects, headers
        self.scope["headers"] = headers
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self._let_linger(self.cycle)

    def _let_linger(self, cycle: RequestResponseCycle) -> None:
        lingering = LingeringTransport(self.transport, self, is_read=lambda: not cycle.more_body)
        cycle.transport = cast(Transport, lingering)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is answered in the form of every other error."""
        response = error_response(InvalidInput("", msg))
        response.headers.append((b"connection", b"close"))
        self.transport.write(_written(response, self.server_state.default_headers))
        if self.cycle is None or self.cycle.response_complete:
            linger(self.transport, self)
        else:
            self.transport.close()  # who still works on a request must hear that it has gone


def _written(response: Response, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    """The response as it stands on the wire. Its values are ours, so none is checked."""
    parts = [_STATUS_LINES[response.status]]
    for name, value in (*default_headers, *response.headers):
        parts += (name, b": ", value, b"\r\n")
    parts += (b"content-length: %d\r\n\r\n" % len(response.body), response.body)
    return b"".join(parts)
