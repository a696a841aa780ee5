"""Closing a connection whose client is still sending, so that it can read its answer.

Whoever closes a socket with unread bytes in it makes the kernel reset the connection, and a
reset discards what the client had not read yet: it sees a broken pipe in place of a 413. So an
early answer ends our side only, and what still comes is read and dropped. Rules: so many bytes
and so many seconds, then the connection is closed whatever it does; nothing is parsed any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LINGER_BYTES = 256 << 20
LINGER_S = 30.0


class LingeringTransport:
    """A transport as one request sees it: closed before the request was read, it lingers."""

    __slots__ = ("_is_read", "_protocol", "_transport")

    def __init__(
        self,
        transport: asyncio.Transport,
        protocol: asyncio.Protocol,
        *,
        is_read: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._is_read = is_read

    def write(self, data: bytes) -> None:
        """As the transport's."""
        self._transport.write(data)

    def is_closing(self) -> bool:
        """As the transport's."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close now, if the request was read to its end, and later if not."""
        if self._is_read():
            self._transport.close()
        else:
            linger(self._transport, self._protocol)


def linger(transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
    """End our side after what was written, and take from `protocol` what still comes."""
    if transport.is_closing():
        return
    drain = _Drain(transport, protocol)
    transport.set_protocol(drain)
    if transport.can_write_eof():
        transport.write_eof()
    if not transport.is_reading():
        transport.resume_reading()


class _Drain(asyncio.Protocol):
    """Reads and drops, within bounds; the protocol before it hears of the end."""

    def __init__(self, transport: asyncio.Transport, before: asyncio.Protocol) -> None:
        self._transport = transport
        self._before = before
        self._left_bytes = LINGER_BYTES
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(LINGER_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Count it."""
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or its time is over."""
        self._deadline.cancel()
        self._before.connection_lost(exc)

    def pause_writing(self) -> None:
        """As before."""
        self._before.pause_writing()

    def resume_writing(self) -> None:
        """As before."""
        self._before.resume_writing()
