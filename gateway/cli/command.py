"""The command itself: its groups, its options for all, and its exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gateway.cli import changes, keys, labels, local, models, reading, rehearsing
from gateway.cli.session import Session, note
from gateway.errors import AuditionError

DEFAULT_URL = "http://127.0.0.1:3000"

app = typer.Typer(
    name="audition",
    help="Serve models, try challengers in shadow on live traffic, and promote on evidence.",
    epilog="Begin with `audition serve`, then `audition status`. Each command has --help.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def connect(
    context: typer.Context,
    url: Annotated[
        str, typer.Option(envvar="AUDITION_URL", help="Where the gateway is.")
    ] = DEFAULT_URL,
    key: Annotated[
        str,
        typer.Option(
            envvar="AUDITION_KEY",
            help="The access key; the environment hides it from others.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Serve models, try challengers in shadow on live traffic, and promote on evidence."""
    context.obj = Session(url=url, key=key)


for commands in (local, reading, rehearsing, changes):
    commands.register(app)
app.add_typer(models.app, name="models")
app.add_typer(labels.app, name="labels")
app.add_typer(keys.app, name="keys")
app.add_typer(local.journal, name="journal")


def main() -> None:
    """Run the command line; the exit code says how it ended."""
    try:
        app()
    except AuditionError as error:
        note(f"audition: {error}")
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has seen enough
