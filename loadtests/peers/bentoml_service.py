"""Plain BentoML: an API that takes the same JSON, every default of the framework's own.

Annotations stay at run time, because BentoML reads them.
"""

from typing import Any

import bentoml
from pydantic import BaseModel

from loadtests.peers.served_model import ServedModel, rows_of


class Tensor(BaseModel):
    """One tensor of the protocol."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


@bentoml.service
class Plain:
    """One model behind one route."""

    def __init__(self) -> None:
        self._model = ServedModel()

    @bentoml.api
    def infer(self, inputs: list[Tensor]) -> dict[str, Any]:
        """Answer one request."""
        return self._model.document(self._model.run(rows_of([inputs[0].model_dump()])))
