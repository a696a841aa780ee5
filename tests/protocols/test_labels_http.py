"""Labels over HTTP: bad rows are named and the others kept, durable before the answer."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.archive.label_index import LabelIndex
from gateway.core.records import LabelRow, LabelsRecord
from gateway.errors import Forbidden, InvalidInput
from gateway.journal.reader import JournalTail
from gateway.journal.writer import JournalWriter
from gateway.protocols.labels_http import MAX_ROWS, LabelsApp
from tests.asgi_client import AsgiClient

WRITER = "0123456789ab"
LATEST_US = 1_400_000_000_000_000
LIMIT_BYTES = 4 << 20


def _id(number: int) -> str:
    return f"{1_365_000_000_000:011x}{WRITER}{number:09x}"


def _label(number: int = 0, label: Any = 1, **more: Any) -> dict[str, Any]:
    return {"prediction_id": _id(number), "label": label, **more}


class Desk:
    """The application over a journal and an index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = JournalWriter(folder / "journal", writer_id=WRITER)
        self.may_label = True
        app = LabelsApp(
            journal=self.journal,
            index=LabelIndex(folder / "labels.sqlite"),
            authorise=self._authorise,
            admit_time=_admit,
            max_body_bytes=LIMIT_BYTES,
        )
        self._client = AsgiClient(app)

    async def _authorise(self, _headers: Any) -> str:
        if not self.may_label:
            raise Forbidden("use a key of role label")
        return "teller"

    def post(self, *labels: Any, **options: Any) -> Any:
        """Labels as a JSON array, or `content` as it is."""
        if "content" not in options:
            options["content"] = json.dumps(labels).encode()
        return self._client.request("POST", "/v1/labels", **options)

    def take(self, *labels: Any) -> tuple[int, int, int]:
        """How many were accepted, duplicate and invalid."""
        answer = self.post(*labels)
        assert answer.status_code == 202, answer.text
        found = answer.json()
        return found["accepted"], found["duplicate"], found["invalid"]

    def records(self) -> list[LabelsRecord]:
        """What the journal holds."""
        entries = JournalTail(self.folder / "journal" / WRITER).drain()
        return [e.record for e in entries if isinstance(e.record, LabelsRecord)]

    def rows(self) -> list[LabelRow]:
        """Every label in the journal."""
        return [row for record in self.records() for row in record.rows]


def _admit(time_us: int) -> None:
    if time_us > LATEST_US:
        raise InvalidInput("observed_at", "the time is too far ahead")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk, closed at the end."""
    desk = Desk(tmp_path)
    yield desk
    desk.journal.close()


def test_labels_of_a_request_are_one_frame(desk: Desk) -> None:
    """With who sent them and all that they say; times in UTC."""
    answer = desk.post(
        _label(1, label=True, observed_at="2013-04-01T12:00:00.5+02:00", attributes={"sex": "f"}),
        _label(1, 0.25, row=3),
        _label(2, "cancelled"),
    )
    assert answer.status_code == 202
    assert answer.json() == {"accepted": 3, "duplicate": 0, "invalid": 0, "invalid_rows": []}
    (record,) = desk.records()
    assert (record.source, record.client) == ("api", "teller")
    first, second, third = record.rows
    assert (first.prediction_id, first.row, first.label) == (_id(1), 0, 1.0)
    assert first.observed_at_us == 1_364_810_400_500_000
    assert first.attributes == {"sex": "f"}
    assert (second.row, second.label, second.observed_at_us) == (3, 0.25, None)
    assert (third.label, third.attributes) == ("cancelled", None)


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "Application/X-NDJSON; a=b"])
def test_lines_are_labels_too(desk: Desk, media_type: str) -> None:
    """Blank lines are nothing, a bad line is one invalid row, any line end will do."""
    lines = [json.dumps(_label(n)) for n in range(3)]
    body = f"{lines[0]}\r\n\n{lines[1]}\n{{bad\n{lines[2]}".encode()
    answer = desk.post(content=body, headers={"content-type": media_type})
    assert answer.json()["accepted"] == 3
    (bad,) = answer.json()["invalid_rows"]
    assert bad["index"] == 2


def test_sending_a_label_again_changes_nothing(desk: Desk) -> None:
    """In the same request, in a later one, with its fields in another order."""
    told = _label(1, 1, observed_at="2013-04-01T12:00:00Z", attributes={"a": 1, "b": 2})
    again = _label(
        1, label=True, observed_at="2013-04-01T14:00:00+02:00", attributes={"b": 2, "a": 1}
    )
    assert desk.take(told, again) == (1, 1, 0)
    assert desk.take(again, told) == (0, 2, 0)
    assert len(desk.rows()) == 1
    assert len(desk.records()) == 1, "an empty frame was written"


def test_a_label_that_goes_there_and_back_needs_times(desk: Desk) -> None:
    """Without a time the third cannot be told from the first sent again; with one it is a label
    of its own, and the final one."""
    there, elsewhere = _label(1, 1), _label(1, 0)
    assert [desk.take(one) for one in (there, elsewhere, there)] == [
        (1, 0, 0), (1, 0, 0), (0, 1, 0),
    ]  # fmt: skip
    assert [row.label for row in desk.rows()] == [1.0, 0.0]
    dated = [
        _label(1, value, observed_at=f"2013-04-01T12:0{minute}:00Z")
        for minute, value in enumerate((1, 0, 1))
    ]
    assert [desk.take(one) for one in dated] == [(1, 0, 0)] * 3
    latest = max(desk.rows(), key=lambda row: row.observed_at_us or 0)
    assert latest.label == 1.0


def test_a_correction_is_another_label(desk: Desk) -> None:
    """Another value, row, time or attribute: all are kept, none overwrites."""
    variants = [
        _label(1, 1),
        _label(1, 0),
        _label(1, "1"),
        _label(1, 1, row=1),
        _label(1, 1, observed_at="2013-04-01T12:00:00Z"),
        _label(1, 1, attributes={"a": 1}),
    ]
    assert desk.take(*variants) == (6, 0, 0)
    assert len({row.label_id for row in desk.rows()}) == 6


def test_an_id_that_nobody_knows_is_kept(desk: Desk) -> None:
    """A label may come before its prediction is archived; whose it is, is found later."""
    assert desk.take({"prediction_id": "f" * 32, "label": 1}) == (1, 0, 0)


_BAD_ROWS: dict[str, tuple[Any, str]] = {
    "no object": (5, "object"),
    "an array": ([_label()], "object"),
    "no label": ({"prediction_id": _id(1)}, "label"),
    "no id": ({"label": 1}, "prediction_id"),
    "null label": (_label(label=None), "label"),
    "object label": (_label(label={}), "label"),
    "empty label": (_label(label=""), "label"),
    "long label": (_label(label="x" * 257), "label"),
    "label with a newline": (_label(label="a\nb"), "label"),
    "id too short": ({"prediction_id": "abc", "label": 1}, "prediction_id"),
    "id in capitals": ({"prediction_id": "F" * 32, "label": 1}, "prediction_id"),
    "id that climbs": ({"prediction_id": "../" * 11, "label": 1}, "prediction_id"),
    "id a number": ({"prediction_id": 5, "label": 1}, "prediction_id"),
    "row negative": (_label(row=-1), "row"),
    "row too large": (_label(row=2**31), "row"),
    "row far too large": (_label(row=10**40), "row"),
    "row a fraction": (_label(row=0.5), "row"),
    "row a text": (_label(row="0"), "row"),
    "time without offset": (_label(observed_at="2013-04-01T12:00:00"), "observed_at"),
    "time a number": (_label(observed_at=1364810400), "observed_at"),
    "time a date": (_label(observed_at="2013-04-01"), "observed_at"),
    "time nonsense": (_label(observed_at="soonZ"), "observed_at"),
    "time empty": (_label(observed_at=""), "observed_at"),
    "time beyond the calendar": (_label(observed_at="9999-12-31T23:59:59-10:00"), "observed_at"),
    "time too far ahead": (_label(observed_at="2031-01-01T00:00:00Z"), "observed_at"),
    "unknown field": (_label(lable=1), "lable"),
    "attributes no object": (_label(attributes=[1]), "attributes"),
    "attributes nested": (_label(attributes={"a": [1]}), "attributes"),
    "attributes too many": (_label(attributes={str(n): n for n in range(33)}), "attributes"),
    "attribute too long": (_label(attributes={"a": "x" * 300}), "attributes.a"),
    "attribute name too long": (_label(attributes={"x" * 300: 1}), "attributes"),
    "attribute with a control character": (_label(attributes={"a": "\u0007"}), "attributes.a"),
}


@pytest.mark.parametrize("name", _BAD_ROWS)
def test_a_bad_row_is_named_and_the_others_are_kept(desk: Desk, name: str) -> None:
    """By its index and with the field that is wrong; only the good rows are journalled."""
    row, field = _BAD_ROWS[name]
    answer = desk.post(_label(1), row, _label(2))
    assert answer.status_code == 202
    found = answer.json()
    assert (found["accepted"], found["invalid"]) == (2, 1)
    (invalid,) = found["invalid_rows"]
    assert invalid["index"] == 1
    assert field in invalid["reason"]
    assert [label.prediction_id for label in desk.rows()] == [_id(1), _id(2)]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"prediction_id":"%s","label":1e999}',
        b'{"prediction_id":"%s","label":"\\ud800"}',
        b'{"prediction_id":"%s","label":1,"attributes":{"a":1e999}}',
        b'{"prediction_id":"%s","label":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_numbers_and_texts_that_are_none_are_bad_rows(desk: Desk, raw: bytes) -> None:
    """What JSON can spell and nothing can hold."""
    raw = raw.replace(b"%s", _id(1).encode())
    good = json.dumps(_label(2)).encode()
    lines = {"content-type": "application/x-ndjson"}
    answer = desk.post(content=raw + b"\n" + good, headers=lines)
    assert (answer.json()["accepted"], answer.json()["invalid"]) == (1, 1), answer.text


def test_a_time_that_no_export_could_hold_is_a_bad_row(desk: Desk) -> None:
    """Before 1970, at the beginning of the calendar and past its end, offsets included."""
    times = [
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00+10:00",
        "9999-12-31T23:59:59-14:00",
    ]
    assert desk.take(*(_label(n, observed_at=at) for n, at in enumerate(times))) == (0, 0, 3)


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ({"content": b"{}"}, 400, "body"),
        ({"content": b""}, 400, "body"),
        ({"content": b"[1,"}, 400, "body"),
        ({"content": b"[NaN]"}, 400, "body"),
        ({"content": b"[" * 100_000}, 400, "body"),
        ({"content": b"\xff\xfe"}, 400, "body"),
        ({"content": b" " * (LIMIT_BYTES + 1)}, 413, "body"),
        (
            {
                "content": gzip.compress(b" " * (LIMIT_BYTES + 1)),
                "headers": {"content-encoding": "gzip"},
            },
            413,
            "body",
        ),
        ({"headers": {"content-encoding": "br"}}, 415, "Content-Encoding"),
        ({"headers": {"content-type": "application/x-pickle"}}, 415, "Content-Type"),
        ({"content": b"[" + b"1," * MAX_ROWS + b"1]"}, 400, "send at most 100000 at a time"),
    ],
)
def test_a_body_that_holds_no_labels_is_refused_whole(
    desk: Desk, options: dict[str, Any], status: int, said: str
) -> None:
    """And nothing of it is written."""
    answer = desk.post(**options)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]
    assert desk.records() == []


def test_many_bad_rows_are_counted_and_some_are_shown(desk: Desk) -> None:
    """An answer must not be larger than what was asked."""
    answer = desk.post(*[5] * 500).json()
    assert answer["invalid"] == 500
    assert [row["index"] for row in answer["invalid_rows"]] == list(range(100))


def test_other_methods_are_told_which_one(desk: Desk) -> None:
    """405 with Allow."""
    answer = AsgiClient(desk._client.app).request("GET", "/v1/labels")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")
    answer = AsgiClient(desk._client.app).request("OPTIONS", "/v1/labels")
    assert (answer.status_code, answer.headers["allow"]) == (204, "POST, OPTIONS")


def test_without_the_right_nothing_is_read(desk: Desk) -> None:
    """Labels can buy a promotion."""
    desk.may_label = False
    assert desk.post(_label(1)).status_code == 403
    assert desk.records() == []


def test_a_label_is_on_the_disk_before_the_answer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk reports an error there is no 202, and sending it again is no duplicate."""

    def failing(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    answer = desk.post(_label(1))
    assert answer.status_code == 503
    assert "disk" in answer.json()["error"]
    index = LabelIndex(desk.folder / "labels.sqlite")
    assert index.known([row.label_id for row in desk.rows()]) == set()


def test_without_the_index_labels_wait(desk: Desk) -> None:
    """503: what cannot be told from a duplicate is not taken."""
    (desk.folder / "labels.sqlite").mkdir()
    answer = desk.post(_label(1))
    assert answer.status_code == 503
    assert "label index" in answer.json()["error"]
    assert desk.records() == []
