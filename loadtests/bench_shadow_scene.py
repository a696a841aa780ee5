"""A state folder with a journal of single-row requests, written before anything reads it.

The models, the registrations and the lanes are made by the gateway's own means, as a server
makes them; only the worker is missing, because its requests would share the cores with what
is measured.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from gateway.bootstrap.evaluator import build_evaluator
from gateway.bootstrap.identity import new_writer_id, now_us
from gateway.bootstrap.prepare import prepare
from gateway.core.names import prediction_id
from gateway.core.records import PredictionRecord, TensorRecord
from gateway.core.routes import Rollout, VersionFacts
from gateway.evaluator import Evaluator
from gateway.journal.shared import SharedJournals
from gateway.journal.writer import JournalWriter
from gateway.judge.changes import Intent
from gateway.judge.operations import Operations
from gateway.ports import Registration
from gateway.runtimes.repository import ModelRepository
from gateway.settings import Settings
from gateway.shadow.gate import Gate
from gateway.shadow.lane import Lane
from gateway.shadow.runner import Runner
from gateway.stores.sql import make_store
from loadtests.servers.tree_model import train

ENDPOINT, INPUT = "shadowed", "x"
HEAVY_INPUTS, _HIDDEN = 64, 4096
Rows = npt.NDArray[np.float32]


def write_trees(models: Path, *, versions: int) -> None:
    """The small tree model of the benchmark, one seed a version."""
    for version in range(1, versions + 1):
        train(models / ENDPOINT / str(version) / "model.onnx", seed=version)
    _write_endpoint_file(models, "probabilities")


def write_heavy(models: Path) -> None:
    """Two versions of a network of 17 million weights: FP32 [-1, 64] → [-1, 1]."""
    for version in ("1", "2"):
        path = models / ENDPOINT / version / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(_network(int(version)).SerializeToString())
    _write_endpoint_file(models, "y")


def _write_endpoint_file(models: Path, output: str) -> None:
    content = f'champion: "1"\nprediction:\n  output: {output}\n'
    (models / ENDPOINT / "endpoint.yaml").write_text(content)


def _network(seed: int) -> onnx.ModelProto:
    random = np.random.default_rng(seed)
    widths = (HEAVY_INPUTS, _HIDDEN, _HIDDEN, 1)
    nodes, weights, name = [], [], INPUT
    for layer, shape in enumerate(itertools.pairwise(widths)):
        values = random.normal(0, shape[0] ** -0.5, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Tanh", [f"m{layer}"], [f"t{layer}"]))
        name = f"t{layer}"
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, HEAVY_INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


class Scene:
    """One endpoint, champion 1, every other version a challenger at 100%, and one journal."""

    def __init__(self, folder: Path, *, challengers: int) -> None:
        self.settings = Settings(
            state=folder / "state", models=folder / "models", admin_key="k" * 40
        )
        prepare(self.settings)
        self.store = make_store(self.settings.store_url)
        self._challenge(challengers)
        self.rollout: Rollout = self.store.rollout(ENDPOINT)
        self.registrations: list[Registration] = self.store.registrations(ENDPOINT)
        self.journal = JournalWriter(self.settings.state / "journal", writer_id=new_writer_id())
        self._sent = 0

    def _challenge(self, challengers: int) -> None:
        operations = Operations(
            self.store,
            clock_us=now_us,
            live_workers=set,
            repository=ModelRepository(self.settings.models),
            acknowledge_within_s=0,
        )
        for version in range(2, 2 + challengers):
            epoch = self.store.rollout(ENDPOINT).epoch
            intent = Intent(actor="bench", reason="benchmark", expected_epoch=epoch)
            operations.challenge(ENDPOINT, str(version), intent=intent)

    def send(self, rows: Rows) -> None:
        """Journal one answered request a row; its output is as long as the model's."""
        champion = self.rollout.versions[self.rollout.champion]
        output = champion.signature.outputs[0]
        width = output.shape[-1]
        for row in rows:
            self._sent += 1
            at_us = now_us()
            name = prediction_id(
                at_ms=at_us // 1000, writer_id=self.journal.writer_id, counter=self._sent
            )
            answered = TensorRecord(output.name, "FP32", (1, width), bytes(4 * width))
            sent = TensorRecord(INPUT, "FP32", (1, row.size), row.tobytes())
            self.journal.append(self._record(name, at_us, champion, sent, answered))

    def _record(
        self,
        name: str,
        at_us: int,
        champion: VersionFacts,
        sent: TensorRecord,
        answered: TensorRecord,
    ) -> PredictionRecord:
        return PredictionRecord(
            0, self._sent, name, at_us, None, ENDPOINT, self.rollout.epoch, champion.version,
            champion.digest, "champion", "", "ok", "", 1, None, 10_000, None, None, None, "",
            "0" * 32, "0" * 16, "", False, 60, 0, [sent], [answered],  # noqa: FBT003 - by place
        )  # fmt: skip

    def lanes(self) -> list[Lane]:
        """A lane for each registration, over one decoder; their processes are started."""
        journals = SharedJournals(self.settings.state / "journal")
        lanes = [self._lane(one, journals) for one in self.registrations]
        self.send(np.zeros((1, self._input_width()), np.float32))
        for lane in lanes:
            drain(lane)
        return lanes

    def _input_width(self) -> int:
        return self.rollout.versions["1"].signature.inputs[0].shape[-1]

    def _lane(self, registration: Registration, journals: SharedJournals) -> Lane:
        return Lane(
            registration,
            sources=journals,
            journal=JournalWriter(self.settings.state / "shadow", writer_id=new_writer_id()),
            rollout_at=lambda epoch: self.store.rollout(ENDPOINT, epoch=epoch),
            make_runner=lambda facts: Runner(
                facts,
                command=(sys.executable, "-m", "gateway.runtimes.runner"),
                root=str(self.settings.models),
                memory_bytes=self.settings.shadow_memory_bytes,
                cpu_limit_s=self.settings.shadow_time_limit_s,
            ),
            cursor={},
            gate=Gate(None, clock_us=now_us),
        )

    def evaluator(self, stopping: threading.Event) -> Evaluator:
        """The whole Evaluator, to be run in a thread."""
        return build_evaluator(self.settings, self.store, spans=None, stopping=stopping)


def drain(lane: Lane) -> float:
    """Do all that there is; the seconds it took."""
    began = time.perf_counter()
    while lane.step():
        pass
    if lane.problem:
        raise SystemExit(lane.problem)
    return time.perf_counter() - began


def end(lanes: list[Lane]) -> None:
    """End their processes."""
    for lane in lanes:
        lane.stop()
        lane.run()
