"""Event time, unit, entity and attributes of a request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidInput
from gateway.protocols.request_context import RequestContext, request_context


def test_nothing_said_is_nothing_known() -> None:
    """Absent, foreign and null parameters leave every field unknown."""
    for parameters in (None, {}, {"binary_data_output": True}, {"unit": None}):
        assert request_context(parameters) == RequestContext()


def test_all_four_are_read() -> None:
    """The golden context."""
    attributes = {"group": "b", "age": 41, "member": True, "score": 0.5, "note": None, "e": ""}
    context = request_context(
        {
            "occurred_at": "1970-01-02T01:00:00.000001+01:00",
            "unit": "user-7",
            "entity": "2013-04-01",
            "attributes": attributes,
        }
    )
    assert context == RequestContext(86_400_000_001, "user-7", "2013-04-01", attributes)


@given(st.datetimes(datetime(1970, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC)))
def test_moments_are_exact_microseconds(moment: datetime) -> None:
    """Any moment of the calendar, before the epoch as well, to the microsecond."""
    micros = request_context({"occurred_at": moment.isoformat()}).occurred_at_us
    assert micros is not None
    whole, rest = divmod(micros, 1_000_000)
    back = datetime.fromtimestamp(0, UTC).replace(microsecond=rest) - datetime.fromtimestamp(0, UTC)
    assert whole == (moment.replace(microsecond=0) - datetime.fromtimestamp(0, UTC)).total_seconds()
    assert back.microseconds == moment.microsecond


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"occurred_at": "2013-04-01T05:15:00"}, "parameters.occurred_at"),
        ({"occurred_at": "2013-04-01"}, "parameters.occurred_at"),
        ({"occurred_at": "2013-02-30T05:15:00Z"}, "parameters.occurred_at"),
        ({"occurred_at": "20130401T051500Z"}, "parameters.occurred_at"),
        ({"occurred_at": 1364793300}, "parameters.occurred_at"),
        ({"occurred_at": 1e300}, "parameters.occurred_at"),
        ({"occurred_at": True}, "parameters.occurred_at"),
        ({"occurred_at": []}, "parameters.occurred_at"),
        ({"unit": ""}, "parameters.unit"),
        ({"unit": "u" * 257}, "parameters.unit"),
        ({"unit": 7}, "parameters.unit"),
        ({"unit": "a\x00b"}, "parameters.unit"),
        ({"entity": "a\nb"}, "parameters.entity"),
        ({"entity": "a\u2028b"}, "parameters.entity"),
        ({"attributes": []}, "parameters.attributes"),
        ({"attributes": {str(i): i for i in range(33)}}, "parameters.attributes"),
        ({"attributes": {"": 1}}, "parameters.attributes"),
        ({"attributes": {"a\tb": 1}}, "parameters.attributes"),
        ({"attributes": {"n" * 257: 1}}, "parameters.attributes"),
        ({"attributes": {"a": [1]}}, "parameters.attributes.a"),
        ({"attributes": {"a": {}}}, "parameters.attributes.a"),
        ({"attributes": {"a": 2**63}}, "parameters.attributes.a"),
        ({"attributes": {"a": "x" * 257}}, "parameters.attributes.a"),
        ({"attributes": {"a": "\x7f"}}, "parameters.attributes.a"),
    ],
)
def test_what_cannot_be_recorded_is_refused(parameters: dict[str, Any], field: str) -> None:
    """Wrong types, control characters, overlong texts and moments without an offset."""
    with pytest.raises(InvalidInput) as refused:
        request_context(parameters)
    assert refused.value.field == field


def test_unusual_but_harmless_text_is_kept() -> None:
    """Non-breaking spaces and joined emoji are no control characters."""
    unit = "a\u00a0b \U0001f469\u200d\U0001f680"
    assert request_context({"unit": unit}).unit == unit
