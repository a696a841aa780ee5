"""The export over HTTP, from a real archive and a real child process."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from gateway.archive.manifest import NAME
from gateway.archive.writer import ArchiveWriter
from gateway.core.routes import EndpointRules
from gateway.errors import AuditionError, StoreUnavailable, UnknownEndpoint
from gateway.protocols.admin_answers import on_error
from gateway.protocols.export_http import COMMAND, PATH, CoveredNow, export_routes
from tests.archive.records import prediction
from tests.asgi_client import AsgiClient


def _client(
    archive: Path, *, covered_now: CoveredNow | None = None, command: Sequence[str] = COMMAND
) -> AsgiClient:
    """The route behind the handlers that the admin application has."""

    async def at_once() -> None:
        return None

    def rules_of(endpoint: str) -> EndpointRules:
        if endpoint != "flights":
            raise UnknownEndpoint(f"there is no endpoint {endpoint}")
        return EndpointRules()

    routes = export_routes(
        archive, rules_of=rules_of, covered_now=covered_now or at_once, command=command
    )
    app = Starlette(
        routes=[Route(PATH, route.handle) for route in routes],
        exception_handlers={AuditionError: on_error},
    )
    return AsgiClient(app)


def _get(client: AsgiClient, form: str, endpoint: str = "flights") -> httpx.Response:
    answer: httpx.Response = client.request(
        "GET", f"/v1/endpoints/{endpoint}/export", params={"format": form}
    )
    return answer


def _archive(folder: Path, count: int = 3) -> Path:
    writer = ArchiveWriter(folder)
    for n in range(count):
        writer.append("w1", n + 1, prediction(f"{n:032x}"))
    writer.flush()
    return folder


@pytest.mark.parametrize("form", ["parquet", "csv", "ndjson"])
def test_each_format_is_answered_with_its_type(tmp_path: Path, form: str) -> None:
    """All rows, a media type and a file name."""
    answer = _get(_client(_archive(tmp_path)), form)
    assert answer.status_code == 200
    assert f'filename="flights.{form}"' in answer.headers["content-disposition"]
    kind = answer.headers["content-type"]
    if form == "parquet":
        assert kind == "application/vnd.apache.parquet"
        assert pq.read_table(io.BytesIO(answer.content)).num_rows == 3
    elif form == "csv":
        assert kind.startswith("text/csv")
        assert len(answer.text.splitlines()) == 4
    else:
        assert kind == "application/x-ndjson"
        assert [json.loads(line)["row"] for line in answer.text.splitlines()] == [0, 0, 0]


def test_a_large_export_comes_whole(tmp_path: Path) -> None:
    """More than one pipe's buffer holds."""
    answer = _get(_client(_archive(tmp_path, 2_000)), "ndjson")
    assert len(answer.text.splitlines()) == 2_000


def test_what_cannot_be_asked_for_is_refused(tmp_path: Path) -> None:
    """An unknown format names those there are; an unknown endpoint is 404."""
    client = _client(_archive(tmp_path))
    wrong = _get(client, "xlsx")
    assert (wrong.status_code, "parquet, csv or ndjson" in wrong.json()["error"]) == (400, True)
    assert _get(client, "csv", "trains").status_code == 404


def test_it_waits_until_the_archive_covers_what_was_answered(tmp_path: Path) -> None:
    """A prediction that is archived while the export waits is in it."""
    writer = ArchiveWriter(tmp_path)

    async def archive_now() -> None:
        writer.append("w1", 1, prediction("a" * 32))
        writer.flush()

    answer = _get(_client(tmp_path, covered_now=archive_now), "ndjson")
    assert json.loads(answer.text)["prediction_id"] == "a" * 32


def test_an_archive_that_lags_is_no_empty_export(tmp_path: Path) -> None:
    """503 with what lags, and the next export is let in again."""

    async def never() -> None:
        raise StoreUnavailable("12 bytes of the journals are not archived")

    client = _client(_archive(tmp_path), covered_now=never)
    for _ in range(3):
        answer = _get(client, "csv")
        assert (answer.status_code, "12 bytes" in answer.json()["error"]) == (503, True)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    """The child's last word is the error."""
    (tmp_path / NAME).write_text("{")
    answer = _get(_client(tmp_path), "csv")
    assert (answer.status_code, NAME in answer.json()["error"]) == (503, True)


def test_a_cut_export_does_not_look_whole(tmp_path: Path) -> None:
    """If the child dies when bytes are under way, the stream breaks off."""
    script = "import sys; sys.stdout.write('x' * 100000); sys.stdout.flush(); sys.exit(1)"
    client = _client(tmp_path, command=(sys.executable, "-c", script))
    transport = httpx.ASGITransport(client.app)

    async def read() -> Any:
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            return await http.get("/v1/endpoints/flights/export")

    with pytest.raises(Exception, match=r"could not be exported|response"):
        anyio.run(read)


def test_only_a_few_run_at_once(tmp_path: Path) -> None:
    """A third export is told to come back; after the others it is let in."""
    client = _client(_archive(tmp_path))

    async def three() -> list[int]:
        release = anyio.Event()

        async def held() -> None:
            await release.wait()

        app = _client(tmp_path, covered_now=held).app
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        found: list[int] = []

        async def ask(http: httpx.AsyncClient) -> None:
            found.append((await http.get("/v1/endpoints/flights/export")).status_code)
            release.set()

        async with (
            httpx.AsyncClient(transport=transport, base_url="http://gateway") as http,
            anyio.create_task_group() as group,
        ):
            for _ in range(3):
                group.start_soon(ask, http)
        return found

    assert anyio.run(three) == [429, 200, 200]
    assert _get(client, "csv").status_code == 200
