"""The port: health, reflection, its bound, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from gateway.core.routes import EndpointRules
from tests import models
from tests.protocols.grpc_scene import GrpcScene
from tests.serving_process import eventually

MakeScene = Callable[..., GrpcScene]
SERVICES = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
    "inference.GRPCInferenceService",
]
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


def test_health_is_what_readyz_says(make_grpc: MakeScene) -> None:
    """At once, for the server and for each service; others do not exist."""
    scene = make_grpc({"1": models.linear()})
    with grpc.insecure_channel(scene.address) as channel:
        health = HealthStub(channel)
        for state, ready in ((SERVING, True), (NOT_SERVING, False), (SERVING, True)):
            scene.ready = ready
            for service in ("", SERVICES[0], SERVICES[2]):
                assert health.Check(HealthCheckRequest(service=service)).status == state
        with pytest.raises(grpc.RpcError) as unknown:
            health.Check(HealthCheckRequest(service="nobody"))
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        (first,) = (next(health.Watch(HealthCheckRequest(service="nobody"))),)
        assert first.status == HealthCheckResponse.SERVICE_UNKNOWN


def test_who_watches_hears_of_every_change_and_of_the_end(make_grpc: MakeScene) -> None:
    """A port that stops is not serving, and lets go of who watches it."""
    scene = make_grpc({"1": models.linear()})
    with grpc.insecure_channel(scene.address) as channel:
        states = HealthStub(channel).Watch(HealthCheckRequest())
        assert next(states).status == SERVING
        scene.ready = False
        assert next(states).status == NOT_SERVING
        scene.ready = True
        assert next(states).status == SERVING
        scene.stop()
        assert [one.status for one in states] == [NOT_SERVING]


def test_a_client_can_ask_what_there_is(make_grpc: MakeScene) -> None:
    """Every service is listed, and described with all that it needs."""
    scene = make_grpc({"1": models.linear()})
    with grpc.insecure_channel(scene.address) as channel:
        ask = ServerReflectionStub(channel).ServerReflectionInfo
        (listed,) = ask(iter([ServerReflectionRequest(list_services="")]))
        assert [one.name for one in listed.list_services_response.service] == SERVICES
        for name in SERVICES:
            (found,) = ask(iter([ServerReflectionRequest(file_containing_symbol=name)]))
            (file,) = found.file_descriptor_response.file_descriptor_proto
            described = FileDescriptorProto.FromString(file)
            assert name in [f"{described.package}.{one.name}" for one in described.service]


def test_calls_beyond_the_bound_are_refused(make_grpc: MakeScene) -> None:
    """RESOURCE_EXHAUSTED, while those under way go on; afterwards there is room again."""
    scene = make_grpc(
        {"1": models.loop_while_positive()},
        EndpointRules(time_limit_ms=3000),
        is_inline=False,
        max_calls=1,
    )
    with InferenceServerClient(scene.address) as client:
        ones = np.ones((1, 3), np.float32)
        tensor = InferInput("x", [1, 3], "FP32").set_data_from_numpy(ones)
        refusals: list[str] = []

        def first() -> None:
            with pytest.raises(InferenceServerException) as ended:
                client.infer("demo", [tensor])
            refusals.append(str(ended.value.status()))

        one = threading.Thread(target=first)
        one.start()
        eventually(lambda: scene.runs.under_way)
        with pytest.raises(InferenceServerException) as refused:
            client.is_server_live()
        one.join()
        assert str(refused.value.status()) == "StatusCode.RESOURCE_EXHAUSTED"
        assert refusals == ["StatusCode.DEADLINE_EXCEEDED"]

        def has_room() -> bool:
            try:
                return bool(client.is_server_live())
            except InferenceServerException:
                return False

        eventually(has_room, within_s=30)
