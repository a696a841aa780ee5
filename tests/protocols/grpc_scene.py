"""A scene behind a gRPC port: the real server, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from gateway.errors import Forbidden
from gateway.protocols.grpc_port import GrpcPort
from gateway.protocols.oip_catalogue import Catalogue
from gateway.protocols.oip_grpc import InferenceService
from gateway.protocols.oip_inference import Inference
from gateway.serving.trace import Tracer
from tests.serving.scenes import Scene

LIMIT_BYTES = 20_000
_T = TypeVar("_T")


class LoopThread:
    """An event loop like a worker's. One for all scenes: gRPC keeps a state for the process."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What the work gives, done on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class GrpcScene(Scene):
    """`rights` is what the caller's key may do, `ready` what /readyz would say."""

    def __init__(
        self,
        loop: LoopThread,
        folder: Path,
        contents: Mapping[str, bytes],
        *arguments: Any,
        max_calls: int = 100,
        **options: Any,
    ) -> None:
        super().__init__(folder, contents, *arguments, **options)
        self.rights, self.ready = {"infer"}, True
        self.inference = Inference(
            routes=self.routes,
            dataplane=self.dataplane,
            tracer=Tracer(ratio=0, seed=1),
            authorise=self._authorise,
            max_body_bytes=LIMIT_BYTES,
        )
        service = InferenceService(
            catalogue=Catalogue(routes=self.routes, authorise=self._authorise),
            inference=self.inference,
            dataplane=self.dataplane,
            is_ready=lambda: self.ready,
        )
        self.port = GrpcPort(
            "127.0.0.1",
            0,
            service=service,
            is_ready=lambda: self.ready,
            max_body_bytes=LIMIT_BYTES,
            max_calls=max_calls,
        )
        self._loop = loop
        self._is_open = False
        loop.run(self.port.start())
        self._is_open = True
        self.address = f"127.0.0.1:{self.port.port}"

    def _authorise(self, _headers: Any, right: str, endpoint: str) -> str:
        if right not in self.rights:
            raise Forbidden(f"may not {right} {endpoint}")
        return "somebody"

    def stop(self) -> None:
        """Stop the port as a worker does."""
        if self._is_open:
            self._is_open = False
            self._loop.run(self.port.stop())

    def close(self) -> None:
        """Stop the port and let go of the journal."""
        self.stop()
        super().close()
