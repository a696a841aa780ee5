"""The control store on a database that SQLAlchemy Core speaks to.

Rules: common SQL only (what is SQLite's own is in sqlite.py). Every write is one
transaction; the epoch is compared and set by the UPDATE itself, so two writers can never
both win whatever the database's isolation. Every error of the database is StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, Engine, Select, Table, delete, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from gateway.core.decisions import GENESIS, Decision, decide
from gateway.core.rollout import Command
from gateway.core.routes import Rollout
from gateway.errors import InvalidSetting, StoreUnavailable, UnknownEndpoint
from gateway.ports import Checkpoint, EvaluatorReport, Key, Registration, WorkerReport
from gateway.stores import sqlite, statements, tables
from gateway.stores.rows import from_row, rollout_of, to_row

_S = TypeVar("_S", bound=msgspec.Struct)


def make_store(url: str) -> SqlStore:
    """Open the store, making it if there is none.

    Raises InvalidSetting for a URL that is not spoken here, StoreUnavailable otherwise.
    """
    store = _store(url, identity=None)
    store.make()
    return store


def open_store(url: str, *, identity: str) -> SqlStore:
    """The store with this identity, which may be away now and come back.

    Every method raises StoreUnavailable while it is not there, or another one is in its place.
    Raises InvalidSetting as `make_store` does.
    """
    return _store(url, identity=identity)


def _store(url: str, *, identity: str | None) -> SqlStore:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidSetting(f"store: {url!r} is no database URL; use sqlite:///FILE") from error
    if parsed.get_backend_name() != "sqlite":
        raise InvalidSetting(
            f"store: {parsed.get_backend_name()!r} is not spoken; use sqlite:///FILE"
        )
    engine = sqlite.open_engine(parsed, identity=identity)
    return SqlStore(engine, sqlite.ChangeCounter(engine))


class SqlStore:
    """A ControlStore; see the port for what each method promises."""

    def __init__(self, engine: Engine, changes: sqlite.ChangeCounter) -> None:
        self._engine = engine
        self._changes = changes

    def make(self) -> None:
        """Make the tables that are not there, and give a new store its identity."""
        with self._writing() as connection:
            tables.metadata.create_all(connection)
            statements.require_format(connection)
            if statements.identity(connection) is None:
                statements.insert_row(
                    connection, tables.store_identity, {"id": uuid4().hex}, taken="identity"
                )

    def identity(self) -> str:
        """Which store this is."""
        with self._reading() as connection:
            return statements.identity(connection) or ""

    def require_format(self) -> None:
        """Raise StoreUnavailable unless it is there and this release can read it."""
        with self._reading() as connection:
            statements.require_format(connection)

    def close(self) -> None:
        """Close every connection; the store may not be used afterwards."""
        self._changes.close()
        self._engine.dispose()

    def endpoints(self) -> list[str]:
        """Names of all endpoints, sorted."""
        query = select(tables.endpoints.c.endpoint).order_by(tables.endpoints.c.endpoint)
        with self._reading() as connection:
            return list(connection.scalars(query))

    def epochs(self) -> dict[str, int]:
        """The epoch that each endpoint is at."""
        table = tables.endpoints
        with self._reading() as connection:
            rows = connection.execute(select(table.c.endpoint, table.c.epoch))
            return {row.endpoint: row.epoch for row in rows}

    def rollout(self, endpoint: str, *, epoch: int | None = None) -> Rollout:
        """The rollout at `epoch` (now, if None)."""
        table = tables.epochs
        query = select(table.c.rollout).where(table.c.endpoint == endpoint)
        query = query.order_by(table.c.epoch.desc()).limit(1)
        if epoch is not None:
            query = query.where(table.c.epoch == epoch)
        with self._reading() as connection:
            text = connection.scalar(query)
        if text is None:
            raise UnknownEndpoint(statements.no_such(endpoint, epoch))
        return rollout_of(text)

    def create(self, rollout: Rollout, *, actor: str, reason: str, at_us: int) -> None:
        """Begin an endpoint at epoch 1."""
        taken = f"endpoint {rollout.endpoint} exists already"
        line = decide(
            rollout,
            command={"type": "create"},
            actor=actor,
            reason=reason,
            at_us=at_us,
            previous_hash=GENESIS,
        )
        row = {"endpoint": rollout.endpoint, "epoch": rollout.epoch, "head_hash": line.hash}
        with self._writing() as connection:
            statements.insert_row(connection, tables.endpoints, row, taken=taken)
            statements.append(connection, line, rollout)

    def commit(
        self,
        rollout: Rollout,
        *,
        command: Command,
        actor: str,
        reason: str,
        at_us: int,
        opened: Sequence[Registration] = (),
        closed: Mapping[int, str] | None = None,
        require_verdict: tuple[int, str] | None = None,
    ) -> Decision:
        """Write `rollout` if the stored epoch is the one before its own, all or nothing."""
        with self._writing() as connection:
            said = statements.last_checkpoints(connection, rollout.endpoint, closed or {})
            document = msgspec.json.decode(msgspec.json.encode(command))
            line = decide(
                rollout,
                command={**document, "closed_on": said} if said else document,
                actor=actor,
                reason=reason,
                at_us=at_us,
                previous_hash=statements.head(connection, rollout.endpoint),
            )
            statements.compare_and_set(connection, rollout, head=line.hash)
            if require_verdict is not None:
                statements.require_verdict(connection, rollout.endpoint, *require_verdict)
            statements.append(connection, line, rollout)
            statements.close(connection, rollout, closed or {})
            for registration in opened:
                statements.open_registration(connection, registration)
        return line

    def decisions(self, endpoint: str) -> list[Decision]:
        """The decision log, oldest first."""
        table = tables.epochs
        query = select(table).where(table.c.endpoint == endpoint).order_by(table.c.epoch)
        with self._reading() as connection:
            statements.head(connection, endpoint)
            rows = connection.execute(query).all()
        return [from_row(Decision, row) for row in rows]

    def head(self, endpoint: str) -> str:
        """The hash of the newest decision."""
        with self._reading() as connection:
            return statements.head(connection, endpoint)

    def rollout_digests(self, endpoint: str) -> dict[int, str]:
        """Epoch → SHA-256 of that epoch's rollout as it is stored now."""
        table = tables.epochs
        query = select(table.c.epoch, table.c.rollout).where(table.c.endpoint == endpoint)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return {epoch: sha256(text.encode()).hexdigest() for epoch, text in rows}

    def registrations(self, endpoint: str) -> list[Registration]:
        """All registrations, by number."""
        table = tables.registrations
        query = select(table).where(table.c.endpoint == endpoint).order_by(table.c.number)
        return self._all(Registration, query)

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Append."""
        with self._writing() as connection:
            statements.append_checkpoint(connection, checkpoint)

    def checkpoints(
        self, endpoint: str, registration: int, *, latest_only: bool = False
    ) -> list[Checkpoint]:
        """The checkpoints of a registration, oldest first."""
        table = tables.checkpoints
        query = select(table).where(
            table.c.endpoint == endpoint, table.c.registration == registration
        )
        newest_first = query.order_by(table.c.number.desc())
        return self._all(
            Checkpoint, newest_first.limit(1) if latest_only else query.order_by(table.c.number)
        )

    def report_worker(self, report: WorkerReport) -> None:
        """Replace what this worker last said."""
        self._replace(tables.workers, {"writer_id": report.writer_id}, to_row(report))

    def workers(self) -> list[WorkerReport]:
        """The last word of each worker, by writer id."""
        return self._all(WorkerReport, select(tables.workers).order_by(tables.workers.c.writer_id))

    def forget_workers(self, writer_ids: Sequence[str]) -> None:
        """Drop the reports of workers that are known to be gone."""
        with self._writing() as connection:
            gone = tables.workers.c.writer_id.in_(list(writer_ids))
            connection.execute(delete(tables.workers).where(gone))

    def report_evaluator(self, report: EvaluatorReport) -> None:
        """Replace what the Evaluator last said."""
        self._replace(tables.evaluator, {"id": 1}, to_row(report))

    def evaluator(self) -> EvaluatorReport | None:
        """The Evaluator's last word; None before its first."""
        reports = self._all(EvaluatorReport, select(tables.evaluator))
        return reports[0] if reports else None

    def add_key(self, key: Key) -> None:
        """Raises Conflict if the name is taken."""
        with self._writing() as connection:
            taken = f"a key named {key.name} exists already"
            statements.insert_row(connection, tables.keys, to_row(key), taken=taken)

    def keys(self) -> list[Key]:
        """All keys, by name."""
        return self._all(Key, select(tables.keys).order_by(tables.keys.c.name))

    def change_token(self) -> int:
        """A number that differs after any commit, ours included; about 3 µs."""
        with _unavailable():
            return self._changes.read()

    def _all(self, kind: type[_S], query: Select[Any]) -> list[_S]:
        # All rows are read before one is decoded: an error in between would keep the statement,
        # and with it this connection's view of the database, open.
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [from_row(kind, row) for row in rows]

    def _replace(self, table: Table, key: dict[str, Any], row: dict[str, Any]) -> None:
        with self._writing() as connection:
            statements.replace_row(connection, table, key=key, row=row)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _unavailable(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with (
            _unavailable(),
            self._engine.connect() as connection,
            connection.execution_options(writes=True).begin(),
        ):
            yield connection


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        # The statement and its parameters stay out of a message that a client may see.
        cause = error.orig if isinstance(error, DBAPIError) else type(error).__name__
        raise StoreUnavailable(f"the control store cannot be reached: {cause}") from error
