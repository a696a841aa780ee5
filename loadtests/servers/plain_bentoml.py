"""What a team writes on its first day with BentoML: arrays in and out, every default.

The import of the array type stays at run time, because BentoML reads the annotations.
"""

import bentoml
import numpy as np

from loadtests.servers.tree_model import INPUT, OUTPUT, open_model


@bentoml.service
class Plain:
    """One model behind one route."""

    def __init__(self) -> None:
        self._session = open_model()

    @bentoml.api
    def infer(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of each row."""
        rows = x.astype(np.float32)
        result: np.ndarray = self._session.run([OUTPUT], {INPUT: rows})[0]
        return result
