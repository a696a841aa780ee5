"""What is no request: refused by its field, in one row, and nothing is half-written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests import models
from tests.protocols.door import GOOD, Door, sent

_X = '{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":%s}]}'


_BAD_DOCUMENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "body"),
    "no JSON": (b"inputs=1", "body"),
    "no object": (b"[1]", "body"),
    "cut off": (json.dumps(GOOD).encode()[:-5], "body"),
    "no UTF-8": (b'{"id":"\xff","inputs":[]}', ""),
    "deep": (b'{"inputs":' + b"[" * 9000 + b"]" * 9000 + b"}", "inputs[0]"),
    "deep data": ((_X % ("[" * 4000 + "0" + "]" * 4000)).encode(), ""),
    "deep parameters": (
        b'{"inputs":[],"parameters":' + b'{"a":' * 3000 + b"1" + b"}" * 3001,
        "",
    ),
    "no inputs": (b"{}", "body: object missing required field inputs"),
    "NaN": ((_X % "[0,1,NaN]").encode(), "inputs[0].data[2]"),
    "null": ((_X % "[0,1,null]").encode(), "inputs[0].data[2]"),
    "Infinity": ((_X % "[0,-Infinity,1]").encode(), "inputs[0].data[1]"),
    "1e999": ((_X % "[0,1,1e999]").encode(), ""),
    "1e39 for FP32": ((_X % "[0,1,1e39]").encode(), "inputs[0].data[2]"),
    "a string": ((_X % '[0,1,"1"]').encode(), "inputs[0].data[2]"),
    "true": ((_X % "[0,1,true]").encode(), "inputs[0].data"),
    "an object": ((_X % "[0,1,{}]").encode(), "inputs[0].data"),
    "lone surrogate": (b'{"inputs":[],"parameters":{"unit":"\\ud800"}}', ""),
}


_BAD_VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "wrong shape": (sent(shape=[1, 4], data=[0, 1, 2, 3]), "inputs[0].shape"),
    "wrong rank": (sent(shape=[3]), "inputs[0].shape"),
    "negative dimension": (sent(shape=[-1, 3]), "inputs[0].shape[0]"),
    "huge dimension": (sent(shape=[10**30, 3]), "inputs[0].shape[0]"),
    "huge product": (sent(shape=[2**31 - 1, 3]), "inputs[0].data"),
    "rows without data": (sent(shape=[1, 3], data=[]), "inputs[0].data"),
    "size is not the product": (sent(shape=[2, 3]), "inputs[0].data"),
    "wrong dtype": (sent(datatype="FP64"), "inputs[0].datatype"),
    "unknown dtype": (sent(datatype="FP8"), "inputs[0].datatype"),
    "unknown input": (sent(name="z"), "inputs[0].name"),
    "input twice": ({"inputs": GOOD["inputs"] * 2}, "inputs[1].name"),
    "missing input": ({"inputs": []}, "inputs"),
    "no data": (sent(data=None), "inputs[0].data"),
    "binary without its header": (
        sent(data=None, parameters={"binary_data_size": 12}),
        "inputs[0].data",
    ),
    "unknown output": ({**GOOD, "outputs": [{"name": "z"}]}, "outputs[0].name"),
    "a time that is none": ({**GOOD, "parameters": {"occurred_at": "noon"}}, "parameters.occurred"),
    "a unit that is none": ({**GOOD, "parameters": {"unit": 5}}, "parameters.unit"),
    "an id with a newline": ({**GOOD, "id": "a\nb"}, "id"),
    "attributes nested": ({**GOOD, "parameters": {"attributes": {"a": [1]}}}, "parameters.attrib"),
}


_BAD = {
    **_BAD_DOCUMENTS,
    **{name: (json.dumps(sent).encode(), field) for name, (sent, field) in _BAD_VALUES.items()},
}


@pytest.fixture(scope="module")
def shared_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One worker that all bad input is sent to, one after the other."""
    door = Door(tmp_path_factory.mktemp("shared"), {"1": models.linear()})
    yield door
    door.close()


@pytest.mark.parametrize("name", _BAD)
def test_bad_input_is_refused_by_its_field_and_is_one_row(shared_door: Door, name: str) -> None:
    """400 with the path of what is wrong, journalled as undecodable; the worker goes on."""
    content, field = _BAD[name]
    before = len(shared_door.records())
    answer = shared_door.post(content=content)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error.startswith(field), error
    assert len(error) < 500
    assert shared_door.post().status_code == 200
    outcomes = shared_door.outcomes()[before:]
    assert outcomes == [("undecodable", "undecodable", 1), ("ok", "", 1)]
    refused = shared_door.records()[before]
    assert refused.error == error
    assert refused.outputs == []


def test_every_request_has_one_record_and_one_id(door: Door) -> None:
    """Good and bad ones, and none is left half-written."""
    for name in list(_BAD)[:12]:
        door.post(content=_BAD[name][0])
        door.post()
    records = door.records()
    assert len(records) == 24 == len({record.prediction_id for record in records})
    assert [record.accepted_rows for record in records] == list(range(1, 25))
