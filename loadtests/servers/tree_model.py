"""The small tree model that every server of the benchmark runs, and one way to open it.

The same session options everywhere, so that only the servers differ.
"""

from __future__ import annotations

import os
from pathlib import Path

# The servers are compared, not what onnxruntime's wheels collect for their maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime

INPUT, OUTPUT, WIDTH = "x", "probabilities", 8
#: One row, the same for everybody.
ROW = np.linspace(-1.0, 1.0, WIDTH, dtype=np.float32)


def train(path: Path, *, seed: int) -> None:
    """Write 40 boosted trees of depth 3: FP32 [-1, 8] → probabilities FP32 [-1, 2]."""
    # The servers open models and train none: their memory is measured.
    from skl2onnx import to_onnx  # noqa: PLC0415
    from sklearn.ensemble import GradientBoostingClassifier  # noqa: PLC0415

    random = np.random.default_rng(seed)
    inputs = random.normal(size=(2000, WIDTH)).astype(np.float32)
    classes = (inputs[:, 0] + inputs[:, 1] * inputs[:, 2] + random.normal(size=2000)) > 0
    trees = GradientBoostingClassifier(n_estimators=40, max_depth=3, random_state=seed)
    model = to_onnx(
        trees.fit(inputs, classes.astype(np.int64)),
        inputs[:1],
        name="trees",
        options={"zipmap": False},
    )
    model.graph.input[0].name = INPUT
    for node in model.graph.node:
        node.input[:] = [INPUT if name == "X" else name for name in node.input]
    # One output: nobody shall pay for a class that is not asked for.
    del model.graph.output[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def open_model() -> onnxruntime.InferenceSession:
    """The model that the variable BENCH_MODEL names, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
    )
