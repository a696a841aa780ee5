"""Commands that only look: status, evidence, decisions, export."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gateway.cli.session import AsJson, Endpoint, Session, note, show

_WATCH_EVERY_S = 1.0

Watch = Annotated[bool, typer.Option("--watch", help="Show it again every second.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (status, evidence, decisions, export):
        app.command()(command)


def status(
    context: typer.Context,
    endpoint: Annotated[str | None, typer.Argument(help="One endpoint; default: all.")] = None,
    *,
    as_json: AsJson = False,
    watch: Watch = False,
) -> None:
    """Who answers, who is in shadow, what the verdicts are, and why to wait.

    `audition status`

    `audition status flights --watch`
    """
    from gateway.cli.status_view import statuses_view  # noqa: PLC0415
    from gateway.client import endpoint_path  # noqa: PLC0415

    session: Session = context.obj
    with session.client() as client:

        def read() -> Any:
            if endpoint is None:
                return {"endpoints": client.endpoints()}
            return client.get(endpoint_path(endpoint))

        if watch:
            _watch(read, statuses_view, as_json=as_json)
        else:
            show(read(), statuses_view, as_json=as_json)


def evidence(context: typer.Context, endpoint: Endpoint, *, as_json: AsJson = False) -> None:
    """Every registration: its terms, its evidence and what each gate says.

    `audition evidence flights --json`
    """
    from gateway.cli.views import evidence_view  # noqa: PLC0415

    show(_read(context, endpoint, "evidence"), evidence_view, as_json=as_json)


def decisions(context: typer.Context, endpoint: Endpoint, *, as_json: AsJson = False) -> None:
    """The decision log: who did what, when and why, and on which evidence.

    Exits 1 if the log, a registration or a verdict was tampered with.

    `audition decisions flights`
    """
    from gateway.cli.views import decisions_view  # noqa: PLC0415

    found = _read(context, endpoint, "decisions")
    show(found, decisions_view, as_json=as_json)
    for fault in found["faults"]:
        note(f"audition: the decision log is not whole: {fault}")
    if found["faults"]:
        raise typer.Exit(1)


def export(
    context: typer.Context,
    endpoint: Endpoint,
    *,
    output: Annotated[Path, typer.Option("--output", help="The file to write.")],
    form: Annotated[
        Literal["parquet", "csv", "ndjson"], typer.Option("--format", help="The file's format.")
    ] = "parquet",
    as_json: AsJson = False,
) -> None:
    """Write the inference table of an endpoint to a file.

    `audition export flights --format csv --output flights.csv`
    """
    from gateway.cli.views import line_view  # noqa: PLC0415
    from gateway.client import endpoint_path  # noqa: PLC0415

    session: Session = context.obj
    beside = output.with_name(f".{output.name}.part")
    try:
        with session.client() as client:
            path = endpoint_path(endpoint, "export")
            size = client.download(path, beside, query={"format": form})
        beside.replace(output)
    except OSError as error:
        raise typer.BadParameter(f"--output {output}: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)
    document = {"output": str(output), "format": form, "bytes": size}
    show(document, line_view("wrote {output}, {bytes} bytes of {format}"), as_json=as_json)


def _read(context: typer.Context, endpoint: str, part: str) -> Any:
    from gateway.client import endpoint_path  # noqa: PLC0415

    session: Session = context.obj
    with session.client() as client:
        return client.get(endpoint_path(endpoint, part))


def _watch(read: Callable[[], Any], view: Callable[[Any], Any], *, as_json: bool) -> None:
    """Until interrupted: one JSON line, or the screen anew, every second."""
    from rich.live import Live  # noqa: PLC0415

    from gateway.cli.views import output  # noqa: PLC0415

    try:
        if as_json:
            while True:
                show(read(), view, as_json=True)
                sys.stdout.flush()  # a pipe would keep it until there is a page of them
                time.sleep(_WATCH_EVERY_S)
        with Live(view(read()), console=output(), auto_refresh=False) as live:
            while True:
                live.update(view(read()), refresh=True)
                time.sleep(_WATCH_EVERY_S)
    except KeyboardInterrupt:
        return
