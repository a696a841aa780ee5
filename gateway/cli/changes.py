"""Commands that change an endpoint. Each reads the epoch first, unless it is given one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.session import (
    AsJson,
    Endpoint,
    ExpectedEpoch,
    Reason,
    Session,
    Version,
    note,
    show,
    usage_error,
)
from gateway.cli.shares import share_bp, weights_bp

Context = typer.Context


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (split, shadow, challenge, withdraw, promote, rollback):
        app.command()(command)


def split(
    context: Context,
    endpoint: Endpoint,
    weights: Annotated[list[str], typer.Argument(help="VERSION=SHARE, in basis points.")],
    *,
    percent: Annotated[bool, typer.Option("--percent", help="Shares are percentages.")] = False,
    reason: Reason = "",
    expected_epoch: ExpectedEpoch = None,
    as_json: AsJson = False,
) -> None:
    """Share the answers among champion and challengers.

    `audition split flights 1=9000 2=1000`

    `audition split flights --percent 1=90 2=10`
    """
    document = {"weights_bp": weights_bp(weights, is_percent=percent), "reason": reason}
    change(context, "PUT", endpoint, "split", epoch=expected_epoch, body=document, json=as_json)


def shadow(
    context: Context,
    endpoint: Endpoint,
    version: Version,
    *,
    sample: Annotated[
        str | None, typer.Option("--sample", help="Share of predictions, such as 100%.")
    ] = None,
    off: Annotated[
        bool, typer.Option("--off", help="Stop its shadow; it stays registered.")
    ] = False,
    reason: Reason = "",
    expected_epoch: ExpectedEpoch = None,
    as_json: AsJson = False,
) -> None:
    """Change how much of the traffic a challenger's shadow sees.

    `audition shadow flights 2 --sample 25%`

    `audition shadow flights 2 --off`
    """
    if (sample is None) != off:
        raise usage_error("give either --sample SHARE or --off")
    sample_bp = 0 if sample is None else share_bp(sample)
    document = {"version": version, "sample_bp": sample_bp, "reason": reason}
    change(context, "PUT", endpoint, "shadow", epoch=expected_epoch, body=document, json=as_json)


def challenge(
    context: Context,
    endpoint: Endpoint,
    version: Version,
    *,
    sample: Annotated[
        str | None, typer.Option("--sample", help="Share of predictions, such as 50%.")
    ] = None,
    reason: Reason = "",
    expected_epoch: ExpectedEpoch = None,
    as_json: AsJson = False,
) -> None:
    """Register a version as challenger; it runs in shadow from now on.

    `audition challenge flights 2 --reason "boosted trees"`
    """
    sample_bp = None if sample is None else share_bp(sample)
    document = {"sample_bp": sample_bp, "reason": reason}
    change(
        context,
        "PUT",
        endpoint,
        "challengers",
        version,
        epoch=expected_epoch,
        body=document,
        json=as_json,
    )


def withdraw(
    context: Context,
    endpoint: Endpoint,
    version: Version,
    *,
    reason: Reason = "",
    expected_epoch: ExpectedEpoch = None,
    as_json: AsJson = False,
) -> None:
    """Close a challenger's registration without a promotion.

    `audition withdraw flights 2`
    """
    query = {"reason": reason}
    change(
        context,
        "DELETE",
        endpoint,
        "challengers",
        version,
        epoch=expected_epoch,
        query=query,
        json=as_json,
    )


def promote(
    context: Context,
    endpoint: Endpoint,
    version: Version,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Without a verdict; needs --reason.")
    ] = False,
    reason: Reason = "",
    expected_epoch: ExpectedEpoch = None,
    as_json: AsJson = False,
) -> None:
    """Make a challenger the champion, if its verdict is PROMOTE.

    `audition promote flights 2`

    `audition promote flights 2 --force --reason "the old model's licence ends"`
    """
    if force and not reason:
        raise usage_error("--force needs --reason")
    document = {"version": version, "force": force, "reason": reason}
    change(
        context, "POST", endpoint, "promotions", epoch=expected_epoch, body=document, json=as_json
    )


def rollback(
    context: Context,
    endpoint: Endpoint,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the decision log.")],
    expected_epoch: ExpectedEpoch = None,
    as_json: AsJson = False,
) -> None:
    """Make the previous champion the champion again.

    `audition rollback flights --reason "answers are too slow"`
    """
    document = {"reason": reason}
    change(
        context, "POST", endpoint, "rollbacks", epoch=expected_epoch, body=document, json=as_json
    )


def change(
    context: Context,
    method: str,
    endpoint: str,
    *parts: str,
    epoch: int | None,
    json: bool,
    body: dict[str, Any] | None = None,
    query: dict[str, str] | None = None,
) -> None:
    """Send one change and show what came of it."""
    from gateway.cli.views import change_view  # noqa: PLC0415
    from gateway.client import endpoint_path  # noqa: PLC0415

    session: Session = context.obj
    with session.client() as client:
        if epoch is None:
            epoch = int(client.get(endpoint_path(endpoint))["epoch"])
        done = client.change(
            method, endpoint_path(endpoint, *parts), epoch=epoch, document=body, query=query
        )
    show(done, change_view, as_json=json)
    warn_of_laggards(done)


def warn_of_laggards(done: dict[str, Any]) -> None:
    """A change that not every worker serves by yet is committed all the same."""
    if done["lagging"]:
        note(f"warning: committed, but not served yet by worker {', '.join(done['lagging'])}")
