"""mosec: its worker class, with requests joined where the benchmark asks for it."""

from __future__ import annotations

from typing import Any

import mosec

from loadtests.peers.served_model import MAX_BATCH, ServedModel, rows_of


class Served(mosec.Worker):
    """One model behind one route."""

    def __init__(self) -> None:
        self._model = ServedModel()

    def forward(self, data: Any) -> Any:
        """Answer one request, or several joined ones."""
        if isinstance(data, list):
            answers = self._model.run_joined([rows_of(one["inputs"]) for one in data])
            return [self._model.document(answer) for answer in answers]
        return self._model.document(self._model.run(rows_of(data["inputs"])))


if __name__ == "__main__":
    server = mosec.Server()
    server.append_worker(Served, num=1, max_batch_size=MAX_BATCH, max_wait_time=1)
    server.run()
