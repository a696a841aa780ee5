"""Predictions to be run in shadow, and runners to run them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gateway.core.records import TensorRecord
from gateway.core.routes import VersionFacts
from gateway.core.tensors import Signature, TensorSpec, from_raw
from gateway.shadow.runner import Runner
from gateway.shadow.running import RunResult
from gateway.shadow.tasks import Task
from tests.archive.records import prediction, tensor

_X = TensorSpec("x", "FP32", (-1, 1))
_Y = TensorSpec("y", "FP32", (-1, 1))
STUB = VersionFacts(
    "2", "d2", "flights/2/model.onnx", Signature((_X,), (_Y,)), batches=True, inline=True
)  # fmt: skip


def column(*numbers: float) -> TensorRecord:
    """x[rows, 1]."""
    return tensor("x", np.array(numbers, dtype=np.float32).reshape(-1, 1))


def task(
    *inputs: TensorRecord, end: int = 1, versions: tuple[str, ...] = ("2",), **changed: Any
) -> Task:
    """A prediction with these inputs that version 2 is to run."""
    rows = inputs[0].shape[0] if inputs else 1
    record = prediction(f"p{end}", inputs=list(inputs), rows=rows, **changed)
    return Task(record, "w1", end, versions, 10_000)


def answers(result: RunResult) -> list[float]:
    """The first output, flat."""
    output = result.outputs[0]
    return [float(n) for n in from_raw(output.datatype, output.shape, output.data).ravel()]


class Stub:
    """The stub in one of its modes, and how often it was started."""

    def __init__(self, folder: Path, mode: str) -> None:
        self._starts = folder / "starts"
        script = str(Path(__file__).with_name("stub_runner.py"))
        self.command = [sys.executable, script, mode, str(self._starts)]

    @property
    def starts(self) -> int:
        """How many processes there have been."""
        return self._starts.stat().st_size if self._starts.exists() else 0

    @contextmanager
    def runner(self, *, cpu_limit_s: float = 10.0, facts: VersionFacts = STUB) -> Iterator[Runner]:
        """A runner of it, ended afterwards."""
        found = Runner(
            facts, command=self.command, root=".", memory_bytes=1 << 30, cpu_limit_s=cpu_limit_s
        )
        try:
            yield found
        finally:
            found.close()


@contextmanager
def real_runner(
    root: Path, facts: VersionFacts, *, cpu_limit_s: float = 10.0, memory_bytes: int = 2 << 30
) -> Iterator[Runner]:
    """A runner as the Evaluator starts it."""
    found = Runner(
        facts,
        command=[sys.executable, "-m", "gateway.runtimes.runner"],
        root=str(root),
        memory_bytes=memory_bytes,
        cpu_limit_s=cpu_limit_s,
    )
    try:
        yield found
    finally:
        found.close()
