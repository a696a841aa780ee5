"""The operators' API as the command line calls it.

Rules: the one module that imports httpx. It knows paths and statuses, and raises the
gateway's refusals as errors of ours with the gateway's own words; it prints nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from gateway.errors import Conflict, Refused, Unreachable

Document = dict[str, Any]

_TIMEOUT_S = 120.0  # a model file is inspected before the answer
_CONNECT_TIMEOUT_S = 5.0
_CHUNK_BYTES = 1 << 20


class Client:
    """A session with one gateway. Methods raise Refused, Conflict or Unreachable."""

    def __init__(self, url: str, *, key: str) -> None:
        self._url = url
        # No proxy from the environment: a key must not pass one by accident.
        self._http = httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
            trust_env=False,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def endpoints(self) -> list[Document]:
        """The status of every endpoint that the key covers."""
        found: list[Document] = self.get("/v1/endpoints")["endpoints"]
        return found

    def get(self, path: str) -> Document:
        """Read a document."""
        return self._send("GET", path)

    def post(self, path: str, document: Document) -> Document:
        """Make something that has no epoch, such as a key."""
        return self._send("POST", path, json=document)

    def change(
        self,
        method: str,
        path: str,
        *,
        epoch: int,
        document: Document | None = None,
        query: dict[str, str] | None = None,
    ) -> Document:
        """Change an endpoint that is at `epoch`."""
        headers = {"if-match": f'"{epoch}"'}
        return self._send(method, path, headers=headers, params=query or {}, json=document)

    def upload(self, path: str, file: Path, *, epoch: int, query: dict[str, str]) -> Document:
        """Send a file as it is read."""
        headers = {
            "if-match": f'"{epoch}"',
            "content-type": "application/octet-stream",
            "content-length": str(file.stat().st_size),
        }
        with file.open("rb") as content:
            chunks = iter(lambda: content.read(_CHUNK_BYTES), b"")
            return self._send("POST", path, headers=headers, params=query, content=chunks)

    def post_lines(self, path: str, lines: bytes) -> Document:
        """Send NDJSON."""
        headers = {"content-type": "application/x-ndjson"}
        return self._send("POST", path, headers=headers, content=lines)

    def download(self, path: str, target: Path, *, query: dict[str, str]) -> int:
        """Write an answer to a file as it comes; the number of bytes."""
        size = 0
        with (
            _reached(self._url),
            self._http.stream("GET", path, params=query) as response,
        ):
            if response.status_code >= 400:
                response.read()
                raise _refusal(response)
            with target.open("wb") as file:
                for chunk in response.iter_bytes():
                    size += file.write(chunk)
        return size

    def _send(self, method: str, path: str, **options: Any) -> Document:
        with _reached(self._url):
            response = self._http.request(method, path, **options)
        if response.status_code >= 400:
            raise _refusal(response)
        document = _document(response)
        if document is None:
            raise Unreachable(f"what answers at {self._url} is no gateway of ours")
        return document


def endpoint_path(endpoint: str, *parts: str) -> str:
    """`/v1/endpoints/…`, each part quoted."""
    return "/".join(("/v1/endpoints", *(quote(part, safe="") for part in (endpoint, *parts))))


@contextmanager
def _reached(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise Unreachable(
            f"no gateway answers at {url} ({error or type(error).__name__}); is it running? "
            "Set --url or AUDITION_URL"
        ) from error


def _refusal(response: httpx.Response) -> Refused | Conflict:
    document = _document(response) or {}
    message = document.get("error") or f"the gateway answered {response.status_code}"
    if response.status_code == 401:
        message = f"{message}; set --key or AUDITION_KEY"
    epoch = document.get("epoch")
    return Refused(message) if epoch is None else Conflict(message, epoch=epoch)


def _document(response: httpx.Response) -> Document | None:
    try:
        document = response.json()
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
