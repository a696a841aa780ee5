"""`audition rehearse`: a version on earlier traffic, here, without a gateway.

Rules: what it found is shown with its n, and never as a verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gateway.cli.local import State
from gateway.cli.session import AsJson, Endpoint, Version, show, usage_error

_US_PER_S = 1_000_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(rehearse)


def rehearse(
    endpoint: Endpoint,
    version: Version,
    *,
    since: Annotated[
        str | None,
        typer.Option(help="Only rows since then: a time, or a duration before the end."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Only rows before then: a time, or a duration before now."),
    ] = None,
    limit_rows: Annotated[
        int | None, typer.Option("--limit-rows", min=1, help="At most so many rows, the newest.")
    ] = None,
    state: State = None,
    models: Annotated[
        Path | None, typer.Option(help="The model repository; default: AUDITION_MODELS.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a version on earlier traffic and compare it with the champion. It cannot promote.

    Reads the archive of the state folder on this machine and changes nothing in it. The version
    must be in the model repository; it need not be known to the gateway.

    `audition rehearse flights 3 --since 7d`
    """
    from gateway.bootstrap.rehearsal import Asked  # noqa: PLC0415
    from gateway.bootstrap.rehearsal import rehearse as run  # noqa: PLC0415
    from gateway.cli.rehearsal_view import rehearsal_view  # noqa: PLC0415
    from gateway.cli.views import rows_bar  # noqa: PLC0415
    from gateway.settings import load_settings  # noqa: PLC0415

    asked = Asked(
        endpoint=endpoint,
        version=version,
        since=_time("--since", since),
        until=_time("--until", until),
        limit_rows=limit_rows,
    )
    given = {"state": state, "models": models}
    settings = load_settings(**{name: one for name, one in given.items() if one is not None})
    with rows_bar(f"{endpoint}/{version}") as advance:
        found = run(settings, asked, advance)
    show(msgspec.to_builtins(found), rehearsal_view, as_json=as_json)


def _time(option: str, text: str | None) -> Callable[[int], int] | None:
    """From the time that a duration is counted back from to the time meant, both in µs."""
    if text is None:
        return None
    seconds = _seconds(text)
    if seconds is not None:
        return lambda end_us: end_us - seconds * _US_PER_S
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise usage_error(
            f"{option}: {text!r} is neither a duration such as 7d nor a time with its offset such "
            "as 2026-01-31T00:00:00Z"
        )
    at_us = round(moment.timestamp() * _US_PER_S)
    return lambda _end_us: at_us


def _seconds(text: str) -> int | None:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415

    from gateway.config_values import Seconds  # noqa: PLC0415

    try:
        seconds: int = TypeAdapter(Seconds).validate_python(text)
    except ValidationError:
        return None
    return seconds
