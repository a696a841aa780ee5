"""The models that the servers are compared with, each with a body and what may be joined."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from loadtests.peers.targets import ENDPOINT, Setting
from loadtests.servers import heavy_model, tree_model


@dataclass(frozen=True, slots=True)
class Compared:
    """A model: how it is written, its rows, and how many requests a peer may join into a run."""

    title: str
    write: Callable[[Path], None]
    output: str
    width: int
    max_batch: int


MODELS = {
    "trees": Compared(
        "40 boosted trees", lambda path: tree_model.train(path, seed=1), tree_model.OUTPUT, 8, 1
    ),
    "heavy": Compared(
        "17 layers of 1024 × 1024", heavy_model.write_heavy, "score", heavy_model.WIDTH, 16
    ),
}


def prepared(model: Compared, folder: Path) -> Setting:
    """Write the model, as champion and as its own challenger, and a body of one row."""
    endpoint = folder / "models" / ENDPOINT
    champion = endpoint / "1" / "model.onnx"
    model.write(champion)
    _write_twin(champion, endpoint / "2" / "model.onnx")
    rules = f'champion: "1"\nprediction:\n  output: {model.output}\n'
    (endpoint / "endpoint.yaml").write_text(rules)
    row = np.linspace(-1.0, 1.0, model.width).round(3).tolist()
    tensor = {"name": "x", "shape": [1, model.width], "datatype": "FP32", "data": row}
    body = folder / "body.json"
    body.write_text(json.dumps({"inputs": [tensor]}))
    return Setting(champion, body, max_batch=model.max_batch, folder=folder)


def _write_twin(model: Path, twin: Path) -> None:
    """The same graph under another digest: equal files are one version to the gateway."""
    content = onnx.load(model)
    content.doc_string = "a challenger that costs what the champion costs"
    twin.parent.mkdir()
    onnx.save(content, twin)
