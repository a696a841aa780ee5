"""`POST /v1/labels`: the truth about earlier predictions, as a JSON array or as NDJSON.

Rules: a bad row is refused with its reason and the others are kept; what is accepted is on
the disk before the answer; sending a label again changes nothing. Which label of a row is
the final one is not decided here. Rows are read in a thread: ten thousand of them on the
event loop would hold up every prediction for as long as they take.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Annotated, Any, TypedDict

import msgspec
from anyio.to_thread import run_sync
from msgspec import Meta

from gateway.archive.label_index import LabelIndex
from gateway.core.names import is_prediction_id
from gateway.core.records import LabelRow, LabelsRecord, Scalar
from gateway.core.times import require_time
from gateway.errors import (
    AuditionError,
    BodyTooLarge,
    Forbidden,
    InvalidInput,
    JournalUnavailable,
    StoreUnavailable,
    TooManyAttempts,
    Unauthenticated,
    UnsupportedEncoding,
)
from gateway.journal.writer import JournalWriter
from gateway.protocols.asgi import (
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    media_type,
    read_body,
    send_error,
    send_json,
    send_other_method,
)
from gateway.protocols.operation import JSON_TYPE, LINES_TYPE, Operation, allow_header
from gateway.protocols.request_context import check_attributes, check_text

MAX_ROWS = 100_000
_SHOWN_INVALID = 100
#: A label id has 32 hexadecimal digits: the first of the prediction id, then a digest.
_TIME_DIGITS, _DIGEST_BYTES = 12, 10
#: So often the thread that reads rows lets the event loop have the interpreter. Unasked it
#: does so every 5 ms only, and an answer that is on its way needs it several times.
_ROWS_A_BREATH, _BREATH_S = 50, 20e-6
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_OFFSET = re.compile(r"[+-]\d\d:\d\d")

#: (headers, right) → the client's name. Raises Unauthenticated or Forbidden.
AuthoriseLabels = Callable[[Headers], Awaitable[str]]


class LabelIn(msgspec.Struct, forbid_unknown_fields=True):
    """One label as it is sent; `row` is the prediction's, 0 unless it was a batch."""

    prediction_id: str
    label: bool | float | str
    row: int = 0
    observed_at: str | None = None
    attributes: dict[str, Scalar] | None = None


_rows_of_array = msgspec.json.Decoder(list[msgspec.Raw])
_row = msgspec.json.Decoder(LabelIn)
_content = msgspec.json.Encoder(order="sorted")


class InvalidRow(TypedDict):
    """A row that was refused, and why."""

    index: int
    reason: str


class LabelsDocument(TypedDict):
    """How many rows were accepted, seen before and refused; the first refused ones by name."""

    accepted: int
    duplicate: int
    invalid: int
    invalid_rows: list[InvalidRow]


TAKE_LABELS = Operation(
    method="POST",
    path="/v1/labels",
    needs="label",
    summary="Take in labels: a JSON array, or one JSON object a line.",
    takes={JSON_TYPE: Annotated[list[LabelIn], Meta(max_length=MAX_ROWS)], LINES_TYPE: bytes},
    gives={202: {JSON_TYPE: LabelsDocument}},
    refuses=(
        *(Unauthenticated, Forbidden, TooManyAttempts, StoreUnavailable, JournalUnavailable),
        *(InvalidInput, BodyTooLarge, UnsupportedEncoding),
    ),
    examples=(
        [
            {
                "prediction_id": "1a20768d09e44b4263c6585000000000",
                "label": 1,
                "observed_at": "2013-04-01T12:00:00Z",
            }
        ],
    ),
)
_ALLOWED = allow_header([TAKE_LABELS], TAKE_LABELS.path)


class _Reading(msgspec.Struct):
    """What a body holds: its rows by label id, how many repeat an earlier one, what is bad."""

    rows: dict[str, LabelRow]
    repeated: int
    invalid: list[InvalidRow]
    known: set[str]

    def fresh(self) -> list[LabelRow]:
        """The rows that were never accepted before."""
        return [row for row in self.rows.values() if row.label_id not in self.known]


class LabelsApp:
    """ASGI application for `/v1/labels`."""

    def __init__(
        self,
        *,
        journal: JournalWriter,
        index: LabelIndex,
        authorise: AuthoriseLabels,
        admit_time: Callable[[int], None],
        max_body_bytes: int,
    ) -> None:
        """`admit_time` raises InvalidInput for a time too far ahead of every clock."""
        self._journal = journal
        self._index = index
        self._authorise = authorise
        self._admit_time = admit_time
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            if scope["method"] != "POST":
                await send_other_method(send, scope["method"], _ALLOWED)
                return
            headers: Headers = dict(scope["headers"])
            client = await self._authorise(headers)
            body = await read_body(receive, headers, limit_bytes=self._max_body_bytes)
            await send_json(send, 202, await self._take(body, headers, client))
        except ClientGone:
            return
        except AuditionError as error:
            await send_error(send, error)

    async def _take(self, body: bytes, headers: Headers, client: str) -> LabelsDocument:
        reading = await run_sync(self._read, body, headers)
        fresh = reading.fresh()
        await self._keep(fresh, client)
        return {
            "accepted": len(fresh),
            "duplicate": reading.repeated + len(reading.known),
            "invalid": len(reading.invalid),
            "invalid_rows": reading.invalid[:_SHOWN_INVALID],
        }

    def _read(self, body: bytes, headers: Headers) -> _Reading:
        rows: dict[str, LabelRow] = {}
        invalid: list[InvalidRow] = []
        repeated = 0
        for index, raw in enumerate(_split(body, headers)):
            if index % _ROWS_A_BREATH == 0:
                time.sleep(_BREATH_S)
            try:
                row = self._parse(raw)
            except InvalidInput as error:
                invalid.append({"index": index, "reason": str(error)})
                continue
            repeated += row.label_id in rows
            rows[row.label_id] = row
        return _Reading(rows, repeated, invalid, self._index.known(list(rows)))

    async def _keep(self, fresh: list[LabelRow], client: str) -> None:
        if not fresh:
            return
        received_at_us = time.time_ns() // 1000
        self._journal.append(LabelsRecord(0, received_at_us, "api", client, fresh))
        await self._journal.synced()
        await run_sync(self._index.record, [row.label_id for row in fresh])

    def _parse(self, raw: bytes | msgspec.Raw) -> LabelRow:
        try:
            found = _row.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput("", str(error)) from None
        if not is_prediction_id(found.prediction_id):
            raise InvalidInput("prediction_id", "is no prediction id; they have 32 hex digits")
        if not 0 <= found.row < 2**31:
            raise InvalidInput("row", "must be 0 or more")
        check_attributes("attributes", found.attributes)
        label = _label(found.label)
        observed_at_us = None if found.observed_at is None else _moment(found.observed_at)
        if observed_at_us is not None:
            self._admit_time(observed_at_us)
        return LabelRow(
            _label_id(found, label, observed_at_us),
            found.prediction_id,
            found.row,
            label,
            observed_at_us,
            found.attributes,
        )


def _split(body: bytes, headers: Headers) -> list[Any]:
    is_lines = media_type(headers) == b"application/x-ndjson"
    try:
        raws = (
            [line for line in body.splitlines() if line.strip()]
            if is_lines
            else _rows_of_array.decode(body)
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            "body", f"send a JSON array, or NDJSON as application/x-ndjson: {error}"
        ) from None
    if len(raws) > MAX_ROWS:
        raise InvalidInput("body", f"holds {len(raws)} labels; send at most {MAX_ROWS} at a time")
    return list(raws)


def _label(value: float | str) -> float | str:
    if isinstance(value, str):
        return check_text("label", value)
    number = float(value)
    if not math.isfinite(number):
        raise InvalidInput("label", "must be a finite number, true, false or a text")
    return number


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or not (text[-1] in "zZ" or _OFFSET.fullmatch(text[-6:])):
        raise InvalidInput(
            "observed_at", "send RFC 3339 with an offset, such as 2013-04-01T12:00:00Z"
        )
    return require_time("observed_at", (moment - _EPOCH) // _MICROSECOND)


def _label_id(found: LabelIn, label: float | str, observed_at_us: int | None) -> str:
    """The identity of a label is what it says, not when it arrived: a digest of that.

    It begins as the prediction's id does, with its time, so that labels of one hour are
    neighbours in the index; purely random keys cost it a page of disk each.
    """
    content = (found.prediction_id, found.row, label, observed_at_us, found.attributes)
    digest = blake2b(_content.encode(content), digest_size=_DIGEST_BYTES)
    return found.prediction_id[:_TIME_DIGITS] + digest.hexdigest()
