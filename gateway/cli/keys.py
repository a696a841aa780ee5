"""`audition keys`: access keys of a running gateway."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.session import AsJson, Session, note, show
from gateway.core.access import ROLES

app = typer.Typer(help="Make and list access keys.", no_args_is_help=True)


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose key it is; the actor in the decision log.")],
    *,
    role: Annotated[str, typer.Option("--role", help=f"One of {', '.join(ROLES)}.")],
    endpoint: Annotated[
        list[str] | None, typer.Option("--endpoint", help="Only this one; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is printed once, and stored nowhere.

    `audition keys create labeller --role label`
    """
    from gateway.cli.views import line_view  # noqa: PLC0415

    if role not in ROLES:
        raise typer.BadParameter(f"there is no role {role!r}; use one of {', '.join(ROLES)}")
    session: Session = context.obj
    with session.client() as client:
        made = client.post("/v1/keys", {"name": name, "role": role, "endpoints": endpoint or []})
    show(made, line_view("{token}"), as_json=as_json)
    note(f"key {name}, role {role}: this is the only time that it is shown")


@app.command("list")
def list_keys(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Names, roles and endpoints of all keys.

    `audition keys list`
    """
    from gateway.cli.views import keys_view  # noqa: PLC0415

    session: Session = context.obj
    with session.client() as client:
        show(client.get("/v1/keys"), keys_view, as_json=as_json)
