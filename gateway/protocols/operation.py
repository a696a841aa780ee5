"""The words in which a route says what it takes and what it gives, for its readers.

Rules: an operation holds types, never schemas: `openapi.py` derives those from the types that
the route itself decodes and encodes. Each table of operations stands beside the code that
answers it, and the applications find paths and methods in it, so neither can be without the
other. What a route refuses is said as exceptions; their statuses are those of `asgi.STATUSES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypeAlias, TypedDict

import msgspec
from msgspec import Meta

from gateway.core.access import Right
from gateway.core.names import NAME_PATTERN
from gateway.errors import AuditionError

#: Media type → the type of the body; `bytes` where it is no JSON.
Media: TypeAlias = Mapping[str, Any]

#: Of the product and of its interface.
VERSION = "0.1.0"
JSON_TYPE = "application/json"
LINES_TYPE = "application/x-ndjson"
BINARY_TYPE = "application/octet-stream"

ResourceName = Annotated[str, Meta(extra_json_schema={"pattern": f"^{NAME_PATTERN}$"})]


class ErrorDocument(TypedDict):
    """Every answer that is no success. `epoch` is the current one, where that is the trouble."""

    error: str
    epoch: NotRequired[int]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path. `needs` None: no key.

    `query` and `headers` are structs whose fields are the parameters; `gives` maps statuses to
    bodies; `carries` are the headers of a success; `also` are refusals without an exception.
    """

    method: str
    path: str
    needs: Right | None
    summary: str
    gives: Mapping[int, Media]
    takes: Media = {}
    query: Any = None
    headers: Any = None
    carries: Mapping[str, str] = {}
    refuses: Sequence[type[AuditionError]] = ()
    also: Mapping[int, str] = {}
    examples: Sequence[Any] = ()
    may_be_open: bool = False  # needs no key where the gateway is open


def allow_header(operations: Iterable[Operation], path: str) -> bytes:
    """The value of `Allow` for a path; empty where there is nothing."""
    methods = {operation.method for operation in operations if operation.path == path}
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join([*sorted(methods), "OPTIONS"]).encode() if methods else b""
