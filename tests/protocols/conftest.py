"""What the tests of gRPC share: one event loop, and scenes on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

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
