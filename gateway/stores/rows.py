"""Values of the control store's port to table rows and back. Rules: no SQL, no connection."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from sqlalchemy import Row

from gateway.core.decisions import Decision
from gateway.core.routes import Rollout
from gateway.errors import CorruptStore
from gateway.ports import Checkpoint, EvaluatorReport, Key, Registration, WorkerReport

_S = TypeVar("_S", bound=msgspec.Struct)
_KEYS = ("endpoint", "epoch", "registration", "number", "writer_id", "name")
_JSON_FIELDS = {
    Registration: ("terms",),
    Decision: ("command",),
    Checkpoint: ("covered", "evidence", "verdict"),
    WorkerReport: ("epochs", "loaded"),
    EvaluatorReport: ("body",),
    Key: ("endpoints",),
}


def json_text(value: object) -> str:
    """JSON for a text column; sorted keys, so that equal values are equal texts."""
    return msgspec.json.encode(value, order="deterministic").decode()


def to_row(value: msgspec.Struct) -> dict[str, Any]:
    """One column a field; structured fields as JSON text."""
    row = {field: getattr(value, field) for field in value.__struct_fields__}
    for field in _JSON_FIELDS[type(value)]:
        row[field] = json_text(row[field])
    return row


def from_row(kind: type[_S], row: Row[Any]) -> _S:
    """The value that `to_row` was given; columns that are no field are ignored.

    Raises CorruptStore.
    """
    document = {field: row._mapping[field] for field in kind.__struct_fields__}
    for field in _JSON_FIELDS[kind]:
        try:
            document[field] = msgspec.json.decode(document[field], type=msgspec.Raw)
        except (msgspec.DecodeError, TypeError) as error:
            raise CorruptStore(_where(kind, document, f"its {field} is no JSON: {error}")) from None
    try:
        return msgspec.json.decode(msgspec.json.encode(document), type=kind)
    except msgspec.DecodeError as error:
        raise CorruptStore(_where(kind, document, str(error))) from None


def _where(kind: type, document: dict[str, Any], fault: str) -> str:
    key = ", ".join(f"{name} {document[name]}" for name in _KEYS if name in document)
    return (
        f"the control store holds a {kind.__name__.lower()} ({key}) that cannot be read: {fault}; "
        "restore the store from a backup"
    )


def rollout_of(text: str) -> Rollout:
    """The rollout of an epoch's row. Raises CorruptStore."""
    try:
        return msgspec.json.decode(text, type=Rollout)
    except (msgspec.DecodeError, TypeError) as error:
        raise CorruptStore(
            f"the control store holds a rollout that cannot be read: {error}; "
            "restore the store from a backup"
        ) from None
