"""The load generator: a closed loop over keep-alive connections, as cheap as Python allows.

A process of its own with sockets, epoll and requests that were encoded before, because the
machine is shared with the server that it measures. Every answer is awaited whole and its
status checked; an answer other than 200 stops the run. Prints one JSON object.

`python -m loadtests.bench_load PORT PATH BODIES SECONDS CONNECTIONS`; BODIES is a file with
one JSON body a line, sent in turn.
"""

from __future__ import annotations

import itertools
import json
import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_LENGTH = b"content-length: "
_DRAIN_S = 10.0


class Load:
    """One run: every connection always waits for exactly one answer."""

    def __init__(self, port: int, requests: Iterator[bytes], connections: int) -> None:
        self.latencies_ns: list[int] = []
        self._requests = requests
        self._poll = select.epoll()
        self._sent_ns: dict[int, int] = {}
        self._partial: dict[int, bytes] = {}
        self._sockets = {s.fileno(): s for s in (_connect(port) for _ in range(connections))}
        for descriptor in self._sockets:
            self._poll.register(descriptor, select.EPOLLIN)

    def run(self, seconds: float) -> float:
        """Send for so long, wait for the last answers; return the seconds that it took."""
        begun = time.perf_counter()
        for descriptor in self._sockets:
            self._send(descriptor)
        while time.perf_counter() - begun < seconds:
            for descriptor, _ in self._poll.poll(1.0):
                if self._receive(descriptor):
                    self._send(descriptor)
        while self._sent_ns and time.perf_counter() - begun < seconds + _DRAIN_S:
            for descriptor, _ in self._poll.poll(1.0):
                self._receive(descriptor)
        if self._sent_ns:
            raise SystemExit(f"{len(self._sent_ns)} requests were not answered")
        return time.perf_counter() - begun

    def _send(self, descriptor: int) -> None:
        self._sent_ns[descriptor] = time.perf_counter_ns()
        self._sockets[descriptor].sendall(next(self._requests))

    def _receive(self, descriptor: int) -> bool:
        """Take what came; whether the answer is whole."""
        data = self._sockets[descriptor].recv(1 << 16)
        if not data:
            raise SystemExit("the server closed a connection")
        if descriptor in self._partial:
            data = self._partial.pop(descriptor) + data
        if len(data) < _answer_bytes(data):
            self._partial[descriptor] = data
            return False
        if not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"an answer was not 200: {data[:500]!r}")
        self.latencies_ns.append(time.perf_counter_ns() - self._sent_ns.pop(descriptor))
        return True


def _answer_bytes(data: bytes) -> int:
    """How long the answer that begins `data` is; more than there is while its head is not."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return len(data) + 1
    at = data.find(_LENGTH, 0, head_end)
    if at < 0:
        raise SystemExit(f"an answer has no content-length: {data[:500]!r}")
    return head_end + 4 + int(data[at + len(_LENGTH) : data.find(b"\r", at)])


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def encode(path: str, body: bytes) -> bytes:
    """One whole HTTP request."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def main() -> None:
    """One run, as the command line says."""
    port, path, bodies, seconds, connections = sys.argv[1:6]
    requests = [encode(path, body) for body in Path(bodies).read_bytes().splitlines()]
    load = Load(int(port), itertools.cycle(requests), int(connections))
    took_s = load.run(float(seconds))
    ordered = sorted(load.latencies_ns)
    report = {
        "requests": len(ordered),
        "took_s": took_s,
        "p50_ms": ordered[len(ordered) // 2] / 1e6,
        "p99_ms": ordered[len(ordered) * 99 // 100] / 1e6,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
