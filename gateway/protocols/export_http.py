"""`GET /v1/endpoints/{endpoint}/export?format=parquet|csv|ndjson`: the inference table.

Rules: the answer holds every prediction that was answered before the request came, so it
waits for the archive first. It streams from a process of its own; nothing of the archive is
ever loaded into a worker. If that process fails when bytes are under way, the connection
breaks off: a cut file must not look like a whole one.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.core.routes import EndpointRules
from gateway.errors import InvalidInput, StoreUnavailable, TooManyAttempts
from gateway.protocols.admin_http import GuardedRoute
from gateway.protocols.admin_operations import ENDPOINT, OF_ENDPOINT
from gateway.protocols.bodies import read_query
from gateway.protocols.operation import Operation

COMMAND = (sys.executable, "-m", "gateway.archive.export")
PATH = f"{ENDPOINT}/export"

_MEDIA_TYPES = {
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
}
_CHUNK_BYTES = 1 << 16
_MOST_AT_ONCE = 2

#: Waits until the archive holds all that was journalled before the call. Raises
#: StoreUnavailable, saying what lags, where that does not come about.
CoveredNow = Callable[[], Awaitable[None]]

#: The rules of an endpoint now. May block. Raises UnknownEndpoint.
RulesOf = Callable[[str], EndpointRules]


def export_routes(
    archive: Path,
    *,
    rules_of: RulesOf,
    covered_now: CoveredNow,
    where: str = "",
    command: Sequence[str] = COMMAND,
) -> tuple[GuardedRoute, ...]:
    """The export's route over the archive in a folder, or at `where` unless that is empty."""
    exports = _Exports(
        (str(archive), where), rules_of=rules_of, covered_now=covered_now, command=command
    )
    return (GuardedRoute(EXPORT, exports.answer),)


class ExportQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The form of the file."""

    format: Annotated[str, Meta(extra_json_schema={"enum": list(_MEDIA_TYPES)})] = "parquet"


EXPORT = Operation(
    method="GET",
    path=PATH,
    needs="view",
    summary="The inference table: every prediction that was answered before the request came.",
    query=ExportQuery,
    gives={200: dict.fromkeys((name.partition(";")[0] for name in _MEDIA_TYPES.values()), bytes)},
    carries={"Content-Disposition": "the name of the file"},
    refuses=(*OF_ENDPOINT, InvalidInput),
)


class _Exports:
    """The exports under way in this worker."""

    def __init__(
        self,
        archive: tuple[str, str],
        *,
        rules_of: RulesOf,
        covered_now: CoveredNow,
        command: Sequence[str],
    ) -> None:
        self._archive = archive
        self._rules_of = rules_of
        self._covered_now = covered_now
        self._command = command
        self._running = 0

    async def answer(self, request: Request) -> Response:
        """One export. Raises InvalidInput, UnknownEndpoint, StoreUnavailable or TooManyAttempts."""
        endpoint = request.path_params["endpoint"]
        form = read_query(request, ExportQuery).format
        if form not in _MEDIA_TYPES:
            raise InvalidInput("format", f"{form[:40]!r} is unknown; use parquet, csv or ndjson")
        rules = await asyncio.to_thread(self._rules_of, endpoint)
        if self._running >= _MOST_AT_ONCE:
            raise TooManyAttempts(
                f"{_MOST_AT_ONCE} exports are running; try again", retry_after_s=5
            )
        chunks = self._run(endpoint, form, rules)
        # Only after the first chunk can nothing go wrong any more that has a status.
        first = await anext(chunks, b"")
        return StreamingResponse(
            _from(first, chunks),
            media_type=_MEDIA_TYPES[form],
            headers={"content-disposition": f'attachment; filename="{endpoint}.{form}"'},
        )

    async def _run(self, endpoint: str, form: str, rules: EndpointRules) -> AsyncIterator[bytes]:
        self._running += 1
        try:
            await self._covered_now()
            process = await asyncio.create_subprocess_exec(
                *self._command, *self._archive, endpoint, form,
                str(rules.maturity_s * 1_000_000), rules.event_time,
                stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
            )  # fmt: skip
            try:
                async for chunk in _output(process):
                    yield chunk
            finally:
                await _end(process)
        finally:
            self._running -= 1


async def _from(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


async def _output(process: Process) -> AsyncIterator[bytes]:
    """What the process writes. Raises StoreUnavailable with its last word if it fails."""
    assert process.stdout is not None
    assert process.stderr is not None
    while chunk := await process.stdout.read(_CHUNK_BYTES):
        yield chunk
    said = await process.stderr.read()
    if await process.wait() != 0:
        last = said.decode(errors="replace").strip().rsplit("\n", 1)[-1]
        raise StoreUnavailable(f"the archive could not be exported: {last[:300]}")


async def _end(process: Process) -> None:
    """Leave no process behind, also when the client has gone."""
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
