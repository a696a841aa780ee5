"""Days of requests whose truth is known, sent as fast as they are answered.

Rules: the clock is the requests' own, so a week takes seconds. Labels follow each day's
requests and lie within maturity. Everything is drawn from one seed.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferResult

from tests.serving_process import lines

ROWS = 8
REQUESTS_A_DAY = 5
FIRST_DAY = datetime(2013, 4, 1, 6, tzinfo=UTC)


class Traffic:
    """Requests to one endpoint and their labels, day after day."""

    def __init__(
        self,
        endpoint: str,
        triton: InferenceServerClient,
        labels: httpx.Client,
    ) -> None:
        self._endpoint = endpoint
        self._triton = triton
        self._labels = labels
        self._random = np.random.default_rng(20130401)
        self.day = 0
        self.answers: list[InferResult] = []

    def week(self) -> None:
        """Seven days."""
        for _ in range(7):
            self._send_day()

    def ask(self) -> InferResult:
        """One request at the beginning of the next day, whose labels never come."""
        return self._ask(self._signals(), self._at(0))

    def _send_day(self) -> None:
        labels = []
        for number in range(REQUESTS_A_DAY):
            signals = self._signals()
            answer = self._ask(signals, self._at(2 * number), form=number)
            labels += self._truth(answer, signals["signal"], self._at(2 * number))
        answered = self._labels.post(
            "/v1/labels",
            content=lines(*labels),
            headers={"content-type": "application/x-ndjson"},
        )
        assert answered.status_code == 202, answered.text
        assert json.loads(answered.content)["accepted"] == len(labels)
        self.day += 1

    def _ask(self, signals: dict[str, np.ndarray], at: datetime, *, form: int = 0) -> InferResult:
        """`form` alternates between JSON and binary tensors, compressed or not."""
        inputs = [
            InferInput(name, [ROWS, 1], "FP32").set_data_from_numpy(
                column, binary_data=bool(form % 2)
            )
            for name, column in signals.items()
        ]
        answer = self._triton.infer(
            self._endpoint,
            inputs,
            parameters={"occurred_at": at.isoformat(), "entity": f"{self._at(0):%Y-%m-%d}"},
            request_compression_algorithm="gzip" if form % 3 == 2 else None,
        )
        self.answers.append(answer)
        return answer

    def _signals(self) -> dict[str, np.ndarray]:
        shape = (ROWS, 1)
        return {
            name: self._random.uniform(-1, 1, shape).astype(np.float32)
            for name in ("signal", "noise")
        }

    def _truth(
        self, answer: InferResult, signal: np.ndarray, at: datetime
    ) -> list[dict[str, object]]:
        """1 where the signal is positive, but for one row in ten or so that nobody can know."""
        blurred = signal.ravel() + self._random.normal(0, 0.2, ROWS)
        prediction_id = answer.get_response()["parameters"]["prediction_id"]
        observed_at = (at + timedelta(hours=3)).isoformat()
        return [
            {
                "prediction_id": prediction_id,
                "row": row,
                "label": int(value > 0),
                "observed_at": observed_at,
            }
            for row, value in enumerate(blurred)
        ]

    def _at(self, hours: int) -> datetime:
        return FIRST_DAY + timedelta(days=self.day, hours=hours)
