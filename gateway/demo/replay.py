"""Clients of the demo: requests in order of departure, and each label when its flight landed.

Real HTTP over a few connections, as fast as the gateway answers; the clock is the flights'.
aiohttp, because a request costs it 160 µs of CPU where httpx needs 1,200, and 72,000 are sent.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import groupby

import aiohttp
import orjson

from gateway.demo.flights import FlightRequest, encode_request, rfc3339
from gateway.errors import Refused

WEEK_US = 7 * 86_400 * 1_000_000
CONNECTIONS = 8
_LABELS_EVERY_US = 3 * 3_600 * 1_000_000
_LABELS_AT_A_TIME = 5_000


@dataclass(slots=True)
class Traffic:
    """What has been sent and answered so far; times of one week's requests in milliseconds."""

    requests: int = 0
    flights: int = 0
    labels: int = 0
    clock_us: int = 0
    latencies_ms: list[float] = field(default_factory=list)

    def quantile_ms(self, share: float) -> float | None:
        """A quantile of this week's request times; None before the first answer."""
        ordered = sorted(self.latencies_ms)
        return ordered[int(share * (len(ordered) - 1))] if ordered else None


def by_week(requests: Iterable[FlightRequest]) -> Iterator[list[FlightRequest]]:
    """The requests cut into weeks from the first departure on."""
    first_us: int | None = None

    def week(request: FlightRequest) -> int:
        nonlocal first_us
        first_us = request.occurred_at_us if first_us is None else first_us
        return (request.occurred_at_us - first_us) // WEEK_US

    for _, group in groupby(requests, key=week):
        yield list(group)


class Replay:
    """Sends requests to one endpoint and remembers whose labels are still to come."""

    def __init__(self, url: str, *, endpoint: str, label_key: str, traffic: Traffic) -> None:
        self._url = url
        self._path = f"/v2/models/{endpoint}/infer"
        self._label_headers = {
            "Authorization": f"Bearer {label_key}",
            "Content-Type": "application/x-ndjson",
        }
        self._traffic = traffic
        self._due: list[tuple[int, str, int, int]] = []  # landed at, prediction id, row, label
        self._labelled_to_us = 0

    async def send(self, requests: list[FlightRequest], progressed: Callable[[], None]) -> None:
        """Send one week, with the labels that fall due in it. Raises Refused."""
        self._traffic.latencies_ms.clear()
        remaining = iter(requests)
        async with aiohttp.ClientSession(self._url) as client:
            senders = [self._sender(client, remaining, progressed) for _ in range(CONNECTIONS)]
            await asyncio.gather(*senders)
            await self._send_labels(client)

    async def ask(self, request: FlightRequest) -> str:
        """Send one request by itself; the version that answered it."""
        async with aiohttp.ClientSession(self._url) as client:
            return await self._send_one(client, request)

    async def _sender(
        self,
        client: aiohttp.ClientSession,
        remaining: Iterator[FlightRequest],
        progressed: Callable[[], None],
    ) -> None:
        for request in remaining:
            await self._send_one(client, request)
            if self._traffic.clock_us - self._labelled_to_us >= _LABELS_EVERY_US:
                await self._send_labels(client)
            progressed()

    async def _send_one(self, client: aiohttp.ClientSession, request: FlightRequest) -> str:
        traffic = self._traffic
        number = traffic.requests
        traffic.requests += 1
        begun = time.perf_counter()
        body = encode_request(request, request_id=f"minute-{number}")
        async with client.post(self._path, data=body) as response:
            answer = await response.read()
        traffic.latencies_ms.append((time.perf_counter() - begun) * 1000)
        if response.status != HTTPStatus.OK:
            raise Refused(f"a request was answered {response.status}: {answer!r}")
        traffic.flights += len(request.labels)
        traffic.clock_us = max(traffic.clock_us, request.occurred_at_us)
        self._remember(request, response.headers["x-prediction-id"])
        return str(orjson.loads(answer)["model_version"])

    def _remember(self, request: FlightRequest, prediction_id: str) -> None:
        for row, (label, at_us) in enumerate(
            zip(request.labels, request.landed_at_us, strict=True)
        ):
            if label is not None and at_us is not None:
                heapq.heappush(self._due, (at_us, prediction_id, row, label))

    async def _send_labels(self, client: aiohttp.ClientSession) -> None:
        self._labelled_to_us = now_us = self._traffic.clock_us
        landed = []
        while self._due and self._due[0][0] <= now_us:
            landed.append(heapq.heappop(self._due))
        for start in range(0, len(landed), _LABELS_AT_A_TIME):
            lines = [_label_line(one) for one in landed[start : start + _LABELS_AT_A_TIME]]
            async with client.post(
                "/v1/labels", data=b"\n".join(lines), headers=self._label_headers
            ) as response:
                answer = await response.json()
            if response.status != HTTPStatus.ACCEPTED or answer["invalid"]:
                raise Refused(f"labels were answered {response.status}: {answer}")
            self._traffic.labels += answer["accepted"]


def _label_line(landed: tuple[int, str, int, int]) -> bytes:
    at_us, prediction_id, row, label = landed
    return orjson.dumps(
        {
            "prediction_id": prediction_id,
            "row": row,
            "label": label,
            "observed_at": rfc3339(at_us),
        }
    )
