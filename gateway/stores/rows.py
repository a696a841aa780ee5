"""Values of the control store's port to table rows and back. Rules: no SQL, no connection."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from sqlalchemy import Row

from gateway.core.decisions import Decision
from gateway.core.routes import Rollout
from gateway.ports import Checkpoint, EvaluatorReport, Key, Registration, WorkerReport

_S = TypeVar("_S", bound=msgspec.Struct)
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
    """The value that `to_row` was given; columns that are no field are ignored."""
    document = {field: row._mapping[field] for field in kind.__struct_fields__}
    for field in _JSON_FIELDS[kind]:
        document[field] = msgspec.Raw(document[field].encode())
    return msgspec.json.decode(msgspec.json.encode(document), type=kind)


def rollout_of(text: str) -> Rollout:
    """The rollout of an epoch's row."""
    return msgspec.json.decode(text, type=Rollout)
