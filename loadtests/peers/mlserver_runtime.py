"""MLServer: a custom runtime, as its documentation writes one for a framework it does not know."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from loadtests.peers.served_model import ServedModel


class Served(MLModel):
    """One model behind the protocol; MLServer joins the requests itself."""

    async def load(self) -> bool:
        """Open the model."""
        self._model = ServedModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request, or several that were joined."""
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        answer = NumpyCodec.encode_output(self._model.output, self._model.run(rows))
        return InferenceResponse(model_name=self.name, outputs=[answer])
