"""The gRPC port of a worker: opened with SO_REUSEPORT, so that all workers share one.

It runs on the worker's own event loop, like REST: the data plane is used from one thread.
"""

from __future__ import annotations

from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gateway.errors import InvalidSetting
from gateway.protocols import oip_grpc, open_inference_pb2
from gateway.protocols.grpc_health import NAME as HEALTH
from gateway.protocols.grpc_health import Health
from gateway.protocols.oip_grpc import InferenceService

#: Calls under way in one worker. Runs that wait for a thread are bounded far below it.
MAX_CALLS = 1000
#: How long calls under way may take to end, once the worker is asked to.
GRACE_S = 10.0


class GrpcPort:
    """One worker's server; `port` is the one that it listens on, once it does."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        service: InferenceService,
        is_ready: Callable[[], bool],
        max_body_bytes: int,
        max_calls: int = MAX_CALLS,
    ) -> None:
        self.port = port
        self._host = host
        self._service = service
        self._health = Health(is_ready, services=(oip_grpc.NAME, HEALTH))
        self._max_body_bytes = max_body_bytes
        self._max_calls = max_calls
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises InvalidSetting where nobody can."""
        server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", self._max_body_bytes),
            ),
            maximum_concurrent_rpcs=self._max_calls,
        )
        server.add_generic_rpc_handlers((self._service.handlers(), self._health.handlers()))
        _describe(server)
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            self.port = server.add_insecure_port(f"{host}:{self.port}")
        except RuntimeError as error:
            raise InvalidSetting(
                f"AUDITION_GRPC_PORT: cannot listen on {host}:{self.port}; choose another, or 0 "
                "for no gRPC"
            ) from error
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Take no new calls, end those under way, and give up what is left after the grace."""
        self._health.close()
        if self._server is not None:
            await self._server.stop(GRACE_S)
        await self._service.finish()


def _describe(server: grpc.aio.Server) -> None:
    """Let clients ask which services and messages there are."""
    pool = open_inference_pb2.DESCRIPTOR.pool
    for known in (health_pb2, reflection_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    names = (oip_grpc.NAME, HEALTH, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=pool)
