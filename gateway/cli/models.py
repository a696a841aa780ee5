"""`audition models`: model files in and out of the repository."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from gateway.cli.changes import warn_of_laggards
from gateway.cli.session import AsJson, Endpoint, ExpectedEpoch, Reason, Session, show

app = typer.Typer(help="Add, list and inspect model versions.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An ONNX file.")]


@app.command()
def add(
    context: typer.Context,
    endpoint: Endpoint,
    file: File,
    *,
    version: Annotated[str, typer.Option("--version", help="The name of the new version.")],
    reason: Reason = "",
    expected_epoch: ExpectedEpoch = None,
    as_json: AsJson = False,
) -> None:
    """Send a model file to the gateway as a new version; it gets no traffic.

    `audition models add flights trees.onnx --version 2`
    """
    from gateway.cli.views import change_view  # noqa: PLC0415
    from gateway.client import endpoint_path  # noqa: PLC0415

    session: Session = context.obj
    with session.client() as client:
        epoch = expected_epoch
        if epoch is None:
            epoch = int(client.get(endpoint_path(endpoint))["epoch"])
        done = client.upload(
            endpoint_path(endpoint, "versions"),
            file,
            epoch=epoch,
            query={"version": version, "reason": reason},
        )
    show(done, change_view, as_json=as_json)
    warn_of_laggards(done)


@app.command("list")
def list_versions(context: typer.Context, endpoint: Endpoint, *, as_json: AsJson = False) -> None:
    """The versions of an endpoint, with their roles and digests.

    `audition models list flights`
    """
    from gateway.cli.views import versions_view  # noqa: PLC0415
    from gateway.client import endpoint_path  # noqa: PLC0415

    session: Session = context.obj
    with session.client() as client:
        found = client.get(endpoint_path(endpoint, "versions"))
    show(found, versions_view, as_json=as_json)


@app.command()
def inspect(
    file: File,
    *,
    against: Annotated[
        Path | None,
        typer.Option(exists=True, help="The champion: its ONNX file, or the endpoint's folder."),
    ] = None,
    version: Annotated[
        str, typer.Option("--version", help="With --against, the name of the new version.")
    ] = "2",
    as_json: AsJson = False,
) -> None:
    """Load a model file here, in a child process, and propose an endpoint file for it.

    What is printed is that file: what is certain stands in it, what is in doubt is a comment.

    `audition models inspect trees.onnx > models/flights/endpoint.yaml`
    """
    from gateway.cli.proposal import proposed_against, proposed_alone, rendered  # noqa: PLC0415
    from gateway.runtimes.inspection import inspect_file  # noqa: PLC0415

    found = inspect_file(file.absolute())
    if against is None:
        proposal = proposed_alone(found)
    else:
        proposal = proposed_against(found, against.absolute(), version=version)
    text = rendered(file.name, found, proposal)
    if as_json:
        document = {"proposal": proposal.document, "endpoint_file": text}
        show({**msgspec.to_builtins(found), **document}, str, as_json=True)
    else:
        sys.stdout.write(text)
