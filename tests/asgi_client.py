"""Requests to an ASGI application without a socket, one event loop each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx


class AsgiClient:
    """`request` as httpx has it; an iterator as `content` is sent chunk by chunk."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def request(self, method: str, path: str, *, content: Any = None, **options: Any) -> Any:
        """Send and read the whole answer; an exception of the application is its 500."""
        return anyio.run(lambda: self.send(method, path, content=content, **options))

    async def send(
        self, method: str, path: str, *, content: Any = None, **options: Any
    ) -> httpx.Response:
        """As `request`, on the event loop that runs."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        if isinstance(content, Iterator):
            content = _chunks(content)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(method, path, content=content, **options)


async def _chunks(content: Iterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in content:
        yield chunk
