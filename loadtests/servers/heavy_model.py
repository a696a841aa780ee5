"""A model whose weights are most of its cost: a row alone reads them all for itself.

17 layers of 1024 x 1024 with sine activations, 69 MB. A row takes about 2.4 ms alone and about
0.45 ms in a batch of 16: most of a layer is reading its weights, and the sines are each row's own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

WIDTH = 8
_HIDDEN, _LAYERS = 1024, 17


def write_heavy(path: Path) -> None:
    """Write the model: x FP32 [-1, 8] → score FP32 [-1, 1] in [0, 1]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_heavy().SerializeToString(deterministic=True))


def _heavy() -> ModelProto:
    random = np.random.default_rng(1)
    nodes, weights = [], []
    given, columns = "x", WIDTH
    for layer in range(_LAYERS + 1):
        width = 1 if layer == _LAYERS else _HIDDEN
        kernel = random.standard_normal((columns, width)) / np.sqrt(columns)
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [given, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Sin", [f"m{layer}"], [f"s{layer}"]))
        given, columns = f"s{layer}", width
    nodes.append(helper.make_node("Sigmoid", [given], ["score"]))
    graph = helper.make_graph(
        nodes,
        "heavy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows", 1])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
