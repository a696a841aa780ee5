"""What a request says about itself beside its tensors: when, for whom, in which slices.

Rules: every field is optional, strictly typed and bounded, because it ends up in the journal,
the archive and on operators' screens. Parameters that are not ours are left alone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.core.records import Scalar
from gateway.core.times import require_time
from gateway.errors import InvalidInput

MAX_TEXT_LENGTH = 256
MAX_ATTRIBUTES = 32

_FIELDS = frozenset({"occurred_at", "unit", "entity", "attributes"})
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S = 86_400
_SECOND_US = 1_000_000


class RequestContext(msgspec.Struct, frozen=True, gc=False):
    """Event time (microseconds since the epoch), stickiness unit, statistical unit, slices."""

    occurred_at_us: int | None = None
    unit: str | None = None
    entity: str | None = None
    attributes: dict[str, Scalar] | None = None


_NOTHING = RequestContext()


def request_context(parameters: dict[str, Any] | None) -> RequestContext:
    """Read our request parameters; null is the same as absent. Raises InvalidInput."""
    if not parameters or _FIELDS.isdisjoint(parameters):
        return _NOTHING
    get = parameters.get
    return RequestContext(
        _moment("parameters.occurred_at", get("occurred_at")),
        _text("parameters.unit", get("unit")),
        _text("parameters.entity", get("entity")),
        check_attributes("parameters.attributes", get("attributes")),
    )


def _moment(field: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        moment = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidInput(field, "send RFC 3339 with an offset, such as 2013-04-01T05:15:00Z")
    since = moment - _EPOCH
    return require_time(
        field, (since.days * _DAY_S + since.seconds) * _SECOND_US + since.microseconds
    )


def _text(field: str, value: Any) -> str | None:
    if value is None:
        return None
    return check_text(field, value)


def check_text(field: str, value: Any, subject: str = "it") -> str:
    """The same text. Raises InvalidInput unless it is short and free of control characters."""
    if type(value) is not str or not 0 < len(value) <= MAX_TEXT_LENGTH:
        raise InvalidInput(
            field, f"{subject} must be a string of 1 to {MAX_TEXT_LENGTH} characters"
        )
    if not value.isprintable() and _CONTROL.search(value):
        raise InvalidInput(field, f"{subject} must be without control characters")
    return value


def check_attributes(field: str, value: Any) -> dict[str, Scalar] | None:
    """The same object of slice values. Raises InvalidInput unless it is small and flat."""
    if value is None:
        return None
    if type(value) is not dict or len(value) > MAX_ATTRIBUTES:
        raise InvalidInput(field, f"send an object of at most {MAX_ATTRIBUTES} values")
    for name, entry in value.items():
        check_text(field, name, "every name in it")
        _check_scalar(f"{field}.{name}", entry)
    return value


def _check_scalar(field: str, value: Any) -> None:
    if isinstance(value, str):
        if value:
            check_text(field, value)
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise InvalidInput(field, "send an integer of at most 64 bits")
    elif value is not None and type(value) is not float:
        raise InvalidInput(field, "send a string, number, boolean or null")
