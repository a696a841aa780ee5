"""The gRPC port of a worker, put together. Imported only where one is wanted."""

from __future__ import annotations

from collections.abc import Callable

from gateway.protocols.grpc_port import GrpcPort
from gateway.protocols.oip_catalogue import Catalogue
from gateway.protocols.oip_grpc import InferenceService
from gateway.protocols.oip_inference import Inference
from gateway.serving.dataplane import DataPlane
from gateway.settings import Settings


def grpc_port(
    settings: Settings,
    *,
    catalogue: Catalogue,
    inference: Inference,
    dataplane: DataPlane,
    is_ready: Callable[[], bool],
) -> GrpcPort:
    """The port that the settings name, not open yet."""
    service = InferenceService(
        catalogue=catalogue, inference=inference, dataplane=dataplane, is_ready=is_ready
    )
    return GrpcPort(
        settings.grpc_host,
        settings.grpc_port,
        service=service,
        is_ready=is_ready,
        max_body_bytes=settings.max_body_bytes,
    )
