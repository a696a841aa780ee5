"""The load generator over gRPC: a closed loop like bench_load's, with the library's own client.

It costs far more than the one over HTTP, so requests per second of the two cannot be compared;
the server's CPU per request can. Prints one JSON object.

`python -m loadtests.bench_grpc_load PORT METHOD BODY SECONDS CONNECTIONS`; BODY is a file with
one serialised message.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import grpc.aio


async def _ask(port: int, method: str, body: bytes, until_s: float) -> list[int]:
    """Ask on a connection of its own until then; the latencies in ns. An error ends the run."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    latencies_ns = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        call = channel.unary_unary(method)
        while time.perf_counter() < until_s:
            begun_ns = time.perf_counter_ns()
            await call(body)
            latencies_ns.append(time.perf_counter_ns() - begun_ns)
    return latencies_ns


async def _run(port: int, method: str, body: bytes, seconds: float, connections: int) -> None:
    begun = time.perf_counter()
    asked = (_ask(port, method, body, begun + seconds) for _ in range(connections))
    ordered = sorted(one for latencies in await asyncio.gather(*asked) for one in latencies)
    report = {
        "requests": len(ordered),
        "took_s": time.perf_counter() - begun,
        "p50_ms": ordered[len(ordered) // 2] / 1e6,
        "p99_ms": ordered[len(ordered) * 99 // 100] / 1e6,
    }
    print(json.dumps(report))


def main() -> None:
    """One run, as the command line says."""
    port, method, body, seconds, connections = sys.argv[1:6]
    content = Path(body).read_bytes()
    asyncio.run(_run(int(port), method, content, float(seconds), int(connections)))


if __name__ == "__main__":
    main()
