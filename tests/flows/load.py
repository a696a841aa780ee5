"""Steady requests from several connections, each answer kept for the claims of a test."""

from __future__ import annotations

import http.client
import json
import threading
from types import TracebackType
from urllib.parse import urlsplit

import msgspec

from tests.serving_process import PATIENCE_S


class Answered(msgspec.Struct, frozen=True):
    """One request as its client saw it; the rest says nothing unless `status` is 200."""

    status: int
    prediction_id: str
    version: str
    score: float
    error: str = ""


class Load:
    """A context; inside it `connections` threads send one request after the other."""

    def __init__(self, url: str, endpoint: str, *, connections: int = 4) -> None:
        self._host = urlsplit(url).netloc
        self._path = f"/v2/models/{endpoint}/infer"
        self._body = json.dumps(
            {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
        ).encode()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(connections)]
        self.answers: list[Answered] = []

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

    def _send(self) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=PATIENCE_S)
        while not self._stopping.wait(0.005):
            try:
                self.answers.append(self._send_one(connection))
            except (OSError, http.client.HTTPException) as error:
                self.answers.append(Answered(0, "", "", 0.0, repr(error)))
                return
        connection.close()

    def _send_one(self, connection: http.client.HTTPConnection) -> Answered:
        connection.request("POST", self._path, self._body)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            return Answered(response.status, "", "", 0.0, body.decode(errors="replace"))
        found = json.loads(body)
        score = found["outputs"][0]["data"][0]
        return Answered(200, found["parameters"]["prediction_id"], found["model_version"], score)
