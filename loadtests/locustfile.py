"""Flights traffic for a running gateway.

`locust -f loadtests/locustfile.py --headless -u 16 -r 16 -t 30s --exit-code-on-error 1`

Rules of this file:
- The bodies are made before the first user starts, so a user's time is spent on sending.
- It sends the flights of April over and over, with their own `occurred_at`: load for the serving
  path. The passes after the first repeat old days, so a verdict means nothing on such a gateway.
- An answer without a prediction id is a failure, whatever its status.

`--host` names another gateway than http://127.0.0.1:3000; `AUDITION_KEY` is sent as bearer key.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import orjson
from locust import FastHttpUser, constant, events, task

from gateway.demo.flights import encode_request, load_flights, replay_requests

INFER_PATH = "/v2/models/flights/infer"
MONTHS = (4,)


class Traffic:
    """The bodies, handed out in order of departure to whichever user asks next."""

    bodies: Iterator[bytes] = iter(())


@events.init.add_listener
def prepare_bodies(**_: Any) -> None:
    """Runs once in every locust process, before a user starts."""
    requests = replay_requests(load_flights().of_months(MONTHS))
    bodies = [encode_request(request, request_id=str(n)) for n, request in enumerate(requests)]
    Traffic.bodies = itertools.cycle(bodies)


class FlightsClient(FastHttpUser):
    """Sends the next request as soon as the last one is answered."""

    host = "http://127.0.0.1:3000"
    wait_time = constant(0)

    def on_start(self) -> None:
        key = os.environ.get("AUDITION_KEY")
        self.headers = {"Content-Type": "application/json"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"

    @task
    def infer(self) -> None:
        body = next(Traffic.bodies)
        with self.client.post(
            INFER_PATH, data=body, headers=self.headers, catch_response=True
        ) as response:
            if response.status_code == 200 and not has_prediction_id(response.content):
                response.failure("the answer carries no parameters.prediction_id")


def has_prediction_id(answer: bytes | None) -> bool:
    return bool(answer) and bool(orjson.loads(answer).get("parameters", {}).get("prediction_id"))
