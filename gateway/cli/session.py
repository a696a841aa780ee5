"""What every command shares: where the gateway is, how results are shown, how it may fail.

Rules: results go to standard output, everything else to standard error. Exit codes: 0 done,
1 refused (by the gateway, or because there is none), 2 a command line that makes no sense.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

if TYPE_CHECKING:
    from gateway.client import Client

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the decision log.")]
ExpectedEpoch = Annotated[
    int | None,
    typer.Option(
        "--expected-epoch",
        help="Refuse unless the endpoint is at this epoch; default: the one it is at now.",
    ),
]
Endpoint = Annotated[str, typer.Argument(help="The endpoint's name.")]
Version = Annotated[str, typer.Argument(help="The model version.")]


class Session(msgspec.Struct):
    """Where the gateway is, and the key to it."""

    url: str
    key: str

    def client(self) -> Client:
        """A client; httpx is imported only when a command needs it."""
        from gateway.client import Client  # noqa: PLC0415

        return Client(self.url, key=self.key)


def show(document: Any, view: Callable[[Any], object], *, as_json: bool) -> None:
    """Print a result: as JSON, or as `view` makes of it."""
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        return
    from gateway.cli.views import output  # noqa: PLC0415

    output().print(view(document))


def note(message: str) -> None:
    """Say something that is no result."""
    from gateway.cli.views import plain  # noqa: PLC0415

    sys.stderr.write(plain(message) + "\n")


def usage_error(message: str) -> typer.BadParameter:
    """What a command raises for arguments that make no sense (exit code 2)."""
    return typer.BadParameter(message)
