"""The steps that a transaction of the control store is made of.

Rules: each function runs on a connection that the caller has begun, and neither begins nor
ends anything; common SQL only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.core.decisions import Decision, document_sha256
from gateway.core.routes import Rollout
from gateway.errors import Conflict, Refused, StoreUnavailable, UnknownEndpoint
from gateway.ports import Checkpoint, Registration
from gateway.stores import tables
from gateway.stores.rows import from_row, json_text, to_row


class _Gate(msgspec.Struct):
    name: str
    figure: float | None = None


class _Said(msgspec.Struct):
    kind: str
    n: int = 0
    gates: list[_Gate] = []


def require_format(connection: Connection) -> None:
    """Stamp an empty store with our format; raise StoreUnavailable for another's."""
    found = connection.scalar(select(tables.store_format.c.format))
    if found is None:
        connection.execute(insert(tables.store_format).values(format=tables.FORMAT))
    elif found != tables.FORMAT:
        raise StoreUnavailable(
            f"the control store has format {found}, this release reads format {tables.FORMAT}"
        )


def identity(connection: Connection) -> str | None:
    """Which store this is; None before it was said."""
    return connection.scalar(select(tables.store_identity.c.id))


def no_such(endpoint: str, epoch: int | None = None) -> str:
    """The message for an endpoint, or an epoch of it, that is not there."""
    return f"no endpoint {endpoint}" + (f" at epoch {epoch}" if epoch is not None else "")


def head(connection: Connection, endpoint: str) -> str:
    """The hash of the newest decision. Raises UnknownEndpoint."""
    table = tables.endpoints
    found = connection.scalar(select(table.c.head_hash).where(table.c.endpoint == endpoint))
    if found is None:
        raise UnknownEndpoint(no_such(endpoint))
    return str(found)


def compare_and_set(connection: Connection, rollout: Rollout, *, head: str) -> None:
    """Move the endpoint on by one epoch, or raise Conflict with the epoch it is at."""
    table = tables.endpoints
    mine = table.c.endpoint == rollout.endpoint
    moved = connection.execute(
        update(table)
        .where(mine, table.c.epoch == rollout.epoch - 1)
        .values(epoch=rollout.epoch, head_hash=head)
    )
    if moved.rowcount == 1:
        return
    epoch = connection.scalar(select(table.c.epoch).where(mine))
    raise Conflict(
        f"endpoint {rollout.endpoint} is at epoch {epoch}, not {rollout.epoch - 1}; "
        "read it again and decide anew",
        epoch=epoch,
    )


def require_verdict(connection: Connection, endpoint: str, registration: int, kind: str) -> None:
    """Raise Refused unless the latest checkpoint of the registration says `kind`."""
    table = tables.checkpoints
    text = connection.scalar(
        select(table.c.verdict)
        .where(table.c.endpoint == endpoint, table.c.registration == registration)
        .order_by(table.c.number.desc())
        .limit(1)
    )
    said = "nothing yet" if text is None else msgspec.json.decode(text, type=_Said).kind
    if said != kind:
        raise Refused(
            f"the verdict on registration {registration} is {said}, not {kind}; "
            "wait for it, or force the command with a reason"
        )


def last_checkpoints(
    connection: Connection, endpoint: str, registrations: Iterable[int]
) -> list[dict[str, Any]]:
    """The latest checkpoint of each, as the decision log names it: its number, its SHA-256 and
    what it said. `ln_e` is the logarithm of the E of superiority, null without a figure."""
    table, said = tables.checkpoints, []
    for number in sorted(registrations):
        row = connection.execute(
            select(table)
            .where(table.c.endpoint == endpoint, table.c.registration == number)
            .order_by(table.c.number.desc())
            .limit(1)
        ).first()
        if row is not None:
            said.append(_named(from_row(Checkpoint, row)))
    return said


def _named(checkpoint: Checkpoint) -> dict[str, Any]:
    said = msgspec.json.decode(checkpoint.verdict, type=_Said)
    figures = {gate.name: gate.figure for gate in said.gates}
    return {
        "registration": checkpoint.registration,
        "checkpoint": checkpoint.number,
        "sha256": document_sha256(checkpoint),
        "verdict": said.kind,
        "ln_e": figures.get("superiority"),
        "n": said.n,
    }


def append(connection: Connection, line: Decision, rollout: Rollout) -> None:
    """Add the line, and the rollout that it leads to, to the endpoint's history."""
    row = {**to_row(line), "rollout": json_text(rollout)}
    connection.execute(insert(tables.epochs).values(row))


def close(connection: Connection, rollout: Rollout, closed: Mapping[int, str]) -> None:
    """Close registrations by number, each with its reason."""
    table = tables.registrations
    for number, reason in closed.items():
        mine = (table.c.endpoint == rollout.endpoint, table.c.number == number)
        connection.execute(
            update(table)
            .where(*mine, table.c.closed_epoch.is_(None))
            .values(closed_epoch=rollout.epoch, closed_reason=reason)
        )


def open_registration(connection: Connection, registration: Registration) -> None:
    """Write the registration. Raises Conflict if its number is taken."""
    taken = f"registration {registration.number} of {registration.endpoint} exists already"
    insert_row(connection, tables.registrations, to_row(registration), taken=taken)


def append_checkpoint(connection: Connection, checkpoint: Checkpoint) -> None:
    """Write the checkpoint. Raises Conflict unless it follows the latest one."""
    table = tables.checkpoints
    latest = connection.scalar(
        select(func.max(table.c.number)).where(
            table.c.endpoint == checkpoint.endpoint,
            table.c.registration == checkpoint.registration,
        )
    )
    message = (
        f"checkpoint {checkpoint.number} of registration {checkpoint.registration} does not "
        f"follow the latest one, which is {latest or 0}"
    )
    if checkpoint.number != (latest or 0) + 1:
        raise Conflict(message)
    insert_row(connection, table, to_row(checkpoint), taken=message)


def insert_row(connection: Connection, table: Table, row: Mapping[str, Any], *, taken: str) -> None:
    """Insert, or raise Conflict with the message `taken` where the key is there already."""
    try:
        connection.execute(insert(table).values(row))
    except IntegrityError as error:
        raise Conflict(taken) from error


def replace_row(
    connection: Connection, table: Table, *, key: Mapping[str, Any], row: Mapping[str, Any]
) -> None:
    """Update the row of `key`, or insert it: the write lock makes the two one step."""
    mine = [table.c[column] == value for column, value in key.items()]
    changed = connection.execute(update(table).where(*mine).values(row))
    if changed.rowcount == 0:
        connection.execute(insert(table).values({**row, **key}))
