"""The model as every peer's handler uses it: the protocol's JSON in, the protocol's JSON out.

Needs numpy and onnxruntime only, since it is imported in each peer's own environment.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtests.servers.tree_model import open_model

Array = npt.NDArray[np.float32]

#: How many requests a peer may join into one run; 1: none are joined.
MAX_BATCH = int(os.environ.get("BENCH_MAX_BATCH", "1"))


class ServedModel:
    """One session; its only input and its first output."""

    def __init__(self) -> None:
        self._session = open_model()
        self.input = self._session.get_inputs()[0].name
        self.output = self._session.get_outputs()[0].name

    def run(self, rows: Array) -> Array:
        """Answer [rows, features]."""
        answer: Array = self._session.run([self.output], {self.input: rows})[0]
        return answer

    def run_joined(self, requests: list[Array]) -> list[Array]:
        """Answer several requests by one run."""
        answer = self.run(np.concatenate(requests))
        return np.split(answer, np.cumsum([len(rows) for rows in requests])[:-1])

    def document(self, answer: Array) -> dict[str, Any]:
        """The protocol's answer."""
        output = {
            "name": self.output,
            "datatype": "FP32",
            "shape": list(answer.shape),
            "data": answer.ravel().tolist(),
        }
        return {"model_name": "bench", "outputs": [output]}


def rows_of(tensors: list[dict[str, Any]]) -> Array:
    """The first tensor of a request."""
    tensor = tensors[0]
    return np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
