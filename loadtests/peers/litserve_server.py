"""LitServe: its API class, with requests joined where the benchmark asks for it.

LitServe reads the annotations of `decode_request`, so they stay at run time and out of there.
"""

import sys
from typing import Any

import litserve

from loadtests.peers.served_model import MAX_BATCH, Array, ServedModel, rows_of


class Served(litserve.LitAPI):
    """One model behind one route."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe calls it so
        """Open the model in the inference process."""
        self._model = ServedModel()

    def decode_request(self, request) -> Array:  # type: ignore[no-untyped-def]
        """The rows of one request."""
        return rows_of(request["inputs"])

    def batch(self, inputs: list[Array]) -> list[Array]:
        """Kept apart here: `predict` joins them along the rows."""
        return inputs

    def predict(self, x: Any) -> Any:
        """Answer one request, or several joined ones."""
        return self._model.run_joined(x) if isinstance(x, list) else self._model.run(x)

    def unbatch(self, output: list[Array]) -> list[Array]:
        """One answer a request."""
        return output

    def encode_response(self, output: Array) -> dict[str, Any]:
        """The protocol's answer."""
        return self._model.document(output)


if __name__ == "__main__":
    served = Served(max_batch_size=MAX_BATCH, api_path="/infer")
    server = litserve.LitServer(served, accelerator="cpu")
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False
    )
