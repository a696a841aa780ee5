"""Clients that do not stop asking, whatever happens to the gateway, and remember each answer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType

import httpx
import msgspec

from tests.serving_process import PATIENCE_S, eventually

CLIENTS = 4


class Answered(msgspec.Struct, frozen=True):
    """One answer as its client saw it; `score` is the first number of its first output."""

    prediction_id: str
    version: str
    rows: int
    score: float


class Load:
    """Requests of a few rows to one endpoint, from several clients at once.

    `answered` holds every answer, `refused` counts other statuses with what they said, and
    `broken` the requests whose connection ended without an answer.
    """

    def __init__(
        self, url: str, endpoint: str, *, number: Callable[[int], float] = lambda n: n % 7
    ) -> None:
        """`number` is what the n-th request of a client carries."""
        self._url = f"{url}/v2/models/{endpoint}/infer"
        self._number = number
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]
        self.answered: list[Answered] = []
        self.refused: Counter[tuple[int, str]] = Counter()
        self.broken = 0

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def await_answers(self, more: int) -> None:
        """Return when there are so many answers more."""
        wanted = len(self.answered) + more
        eventually(lambda: len(self.answered) >= wanted)

    def _ask(self) -> None:
        with httpx.Client(trust_env=False, timeout=PATIENCE_S) as http:
            asked = 0
            while not self._stopping.is_set():
                asked += 1
                rows = asked % 3 + 1
                try:
                    self._note(http.post(self._url, json=_body(self._number(asked), rows)), rows)
                except httpx.TransportError:
                    self.broken += 1
                    self._stopping.wait(0.05)

    def _note(self, response: httpx.Response, rows: int) -> None:
        document = response.json()
        if response.status_code == 200:
            score = document["outputs"][0]["data"][0]
            prediction_id, version = (
                document["parameters"]["prediction_id"],
                document["model_version"],
            )
            self.answered.append(Answered(prediction_id, version, rows, score))
            self._stopping.wait(0.002)  # others need some of the machine too
        else:
            self.refused[response.status_code, document["error"]] += 1
            self._stopping.wait(0.02)


def _body(number: float, rows: int) -> dict[str, object]:
    data = [number] * rows
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 1], "data": data}]}
