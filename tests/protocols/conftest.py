"""Scenes for both protocols: behind HTTP, and behind gRPC on one event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.routes import EndpointRules
from tests import models
from tests.protocols.door import Door, MakeDoor
from tests.protocols.grpc_scene import GrpcScene, LoopThread


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    """The loop of every scene."""
    loop = LoopThread()
    yield loop
    loop.close()


@pytest.fixture
def make_grpc(tmp_path: Path, loop_thread: LoopThread) -> Iterator[Callable[..., GrpcScene]]:
    """A scene behind gRPC per call, closed at the end."""
    made: list[GrpcScene] = []

    def make(*arguments: Any, **options: Any) -> GrpcScene:
        made.append(GrpcScene(loop_thread, tmp_path / str(len(made)), *arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def make_door(tmp_path: Path) -> Iterator[MakeDoor]:
    """A door per call, closed at the end."""
    made: list[Door] = []

    def make(*arguments: Any, **options: Any) -> Door:
        made.append(Door(tmp_path / str(len(made)), *arguments, **options))
        return made[-1]

    yield make
    for door in made:
        door.close()


@pytest.fixture
def door(make_door: MakeDoor) -> Door:
    """Champion `linear` and, in shadow, `constant`; callers may pin."""
    contents = {"1": models.linear(), "2": models.constant()}
    return make_door(contents, EndpointRules(allow_pinned=True))
