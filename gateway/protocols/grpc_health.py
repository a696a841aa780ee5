"""`grpc.health.v1.Health` of a worker: what /readyz says, to whoever supervises gRPC servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection

import grpc
from grpc_health.v1.health_pb2 import DESCRIPTOR, HealthCheckRequest, HealthCheckResponse

from gateway.protocols.grpc_statuses import Context

NAME = DESCRIPTOR.services_by_name["Health"].full_name
#: How soon a watcher hears of a change.
_LOOK_EVERY_S = 0.5
_SERVING: int = HealthCheckResponse.SERVING
_NOT_SERVING: int = HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN: int = HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """Answers for the whole server (the empty name) and for each of `services`."""

    def __init__(self, is_ready: Callable[[], bool], *, services: Collection[str]) -> None:
        self._is_ready = is_ready
        self._services = frozenset({"", *services})
        self._is_closing = asyncio.Event()

    def close(self) -> None:
        """From now on not serving; who watches is told and let go."""
        self._is_closing.set()

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a server dispatches to."""
        check = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=HealthCheckRequest.FromString,
            response_serializer=HealthCheckResponse.SerializeToString,
        )
        watch = grpc.unary_stream_rpc_method_handler(
            self._watch,
            request_deserializer=HealthCheckRequest.FromString,
            response_serializer=HealthCheckResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(NAME, {"Check": check, "Watch": watch})

    async def _check(self, asked: HealthCheckRequest, context: Context) -> HealthCheckResponse:
        if asked.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service here")
        return HealthCheckResponse(status=self._state(asked.service))

    async def _watch(
        self, asked: HealthCheckRequest, _context: Context
    ) -> AsyncIterator[HealthCheckResponse]:
        told: int | None = None
        while True:
            closing, state = self._is_closing.is_set(), self._state(asked.service)
            if state != told:
                told = state
                yield HealthCheckResponse(status=state)
            if closing:
                return
            try:
                await asyncio.wait_for(self._is_closing.wait(), _LOOK_EVERY_S)
            except TimeoutError:
                continue

    def _state(self, service: str) -> int:
        if service not in self._services:
            return _SERVICE_UNKNOWN
        return _SERVING if self._is_ready() and not self._is_closing.is_set() else _NOT_SERVING
