"""Who may use the worker's routes: which key each of them asks for.

The operators' routes state their own rights (protocols/admin_routes); here stand the others.
"""

from __future__ import annotations

import asyncio

from gateway.core.access import Right, require_right
from gateway.errors import Forbidden, Unauthenticated
from gateway.ports import Key
from gateway.protocols.asgi import Headers
from gateway.protocols.authentication import Authenticator


class Access:
    """Names the client of a request, or refuses it."""

    def __init__(self, authenticator: Authenticator, *, open_inference: bool) -> None:
        self._authenticator = authenticator
        self._open = open_inference

    def inference(self, headers: Headers, right: Right, endpoint: str) -> str:
        """The client's name; empty for the anonymous client of an open gateway."""
        authorization = headers.get(b"authorization")
        if authorization is None and self._open:
            if right != "infer":
                raise Unauthenticated("pinning a version needs a key; see `audition keys create`")
            return ""
        key = self._authenticator.identify(_text(authorization))
        require_right(key, right, endpoint=endpoint or None)
        return key.name

    def metrics(self, headers: Headers) -> str:
        """The reader's name; a scraper's key is one that may view."""
        authorization = headers.get(b"authorization")
        if authorization is None and self._open:
            return ""
        key = self._authenticator.identify(_text(authorization))
        require_right(key, "view", endpoint=None)
        return key.name

    async def labels(self, headers: Headers) -> str:
        """The client's name, if its key is one for labels."""
        key: Key = await asyncio.to_thread(
            self._authenticator.identify, _text(headers.get(b"authorization"))
        )
        require_right(key, "label", endpoint=None)
        if key.endpoints:
            raise Forbidden("labels name no endpoint; use a label key that covers all of them")
        return key.name


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")
