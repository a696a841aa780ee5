"""Commands that run here, without a gateway to talk to: serve, demo, journal."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from gateway.cli.session import AsJson, note, show

journal = typer.Typer(help="Look at the journals of a state folder.", no_args_is_help=True)

State = Annotated[
    Path | None, typer.Option("--state", help="The state folder; default: AUDITION_STATE.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (serve, demo):
        app.command()(command)


def serve(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port.")] = 3000,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="The port of gRPC, 0 for none; default: AUDITION_GRPC_PORT."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="How many processes answer.")] = 1,
    state: State = None,
    models: Annotated[
        Path | None, typer.Option(help="The model repository; default: AUDITION_MODELS.")
    ] = None,
) -> None:
    """Start the gateway.

    `audition serve --workers 2 --models models --state state`
    """
    from gateway.hosting import serve as serve_gateway  # noqa: PLC0415
    from gateway.settings import load_settings  # noqa: PLC0415

    if not is_loopback(host):
        note(
            f"WARNING: listening on {host}, where other machines can reach it. Put a proxy with "
            "TLS in front, and close inference with AUDITION_OPEN_INFERENCE=false."
        )
    given = {"state": state, "models": models, "grpc_port": grpc_port}
    settings = load_settings(**{name: one for name, one in given.items() if one is not None})
    serve_gateway(host=host, port=port, workers=workers, settings=settings)


def demo(
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the gateway running afterwards.")
    ] = False,
) -> None:
    """Play the whole story on real flights: shadow, labels, verdicts, a promotion.

    `audition demo`
    """
    from gateway.demo.story import main  # noqa: PLC0415

    raise typer.Exit(main(keep=keep))


@journal.command()
def stats(*, state: State = None, as_json: AsJson = False) -> None:
    """How much every journal holds.

    `audition journal stats --state state`
    """
    from gateway.cli.views import journals_view  # noqa: PLC0415

    show(_journals(state), journals_view, as_json=as_json)


@journal.command()
def verify(*, state: State = None, as_json: AsJson = False) -> None:
    """Read every journal from its first byte. Exits 1 if one is not whole.

    `audition journal verify --state state`
    """
    from gateway.cli.views import line_view  # noqa: PLC0415
    from gateway.journal.inspect import JournalStats, problems  # noqa: PLC0415

    found = _journals(state)
    every = [msgspec.convert(one, JournalStats) for part in found.values() for one in part]
    wrong = problems(every)
    document = {"journals": len(every), "problems": wrong}
    show(document, line_view("{journals} journals read"), as_json=as_json)
    for problem in wrong:
        note(f"audition: {problem}")
    if wrong:
        raise typer.Exit(1)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost may be any."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _journals(state: Path | None) -> dict[str, list[dict[str, Any]]]:
    """Journals of the workers and of the shadow lanes, by folder."""
    from gateway.journal.inspect import stats as read_stats  # noqa: PLC0415
    from gateway.settings import load_settings  # noqa: PLC0415

    root = state or load_settings().state
    if not (root / "journal").is_dir():
        raise typer.BadParameter(f"{root} is no state folder: it has no folder `journal`")
    folders = [name for name in ("journal", "shadow") if (root / name).is_dir()]
    return {name: msgspec.to_builtins(read_stats(root / name)) for name in folders}
