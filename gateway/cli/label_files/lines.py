"""Formats of one JSON object a line: our own, and SageMaker's ground truth."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from gateway.cli.label_files.rows import MAX_LINE_BYTES, UNFIT, Cell, Line, Row, lines
from gateway.errors import InvalidInput

_Translate = Callable[[bytes], bytes]


class _Truth(msgspec.Struct):
    data: str
    encoding: Literal["CSV"]


class _Event(msgspec.Struct, rename="camel"):
    event_id: str


class _GroundTruth(msgspec.Struct, rename="camel"):
    """What SageMaker's model monitor joins with the predictions that an endpoint captured."""

    ground_truth_data: _Truth
    event_metadata: _Event
    event_version: Literal["0"]


_ground_truth = msgspec.json.Decoder(_GroundTruth)
_any_object = msgspec.json.Decoder(dict[str, Any])


def ndjson_rows(file: Path) -> Iterator[Row]:
    """Lines that are sent as they are."""
    return _rows(file, _ndjson)


def sagemaker_rows(file: Path, cell: Cell) -> Iterator[Row]:
    """Records of groundTruthData, eventMetadata and eventVersion; `cell` reads a label."""
    return _rows(file, lambda line: _sagemaker(line, cell))


def begins_as_sagemaker(file: Path) -> bool:
    """Whether the first line that is not blank is ground truth."""
    with file.open("rb") as content:
        first = next((line.content for line in lines(content) if line.content.strip()), b"")
    try:
        return "groundTruthData" in _any_object.decode(first)
    except UNFIT:
        return False


def _rows(file: Path, translate: _Translate) -> Iterator[Row]:
    with file.open("rb") as content:
        for line in lines(content):
            if source := line.content.strip():
                yield _row(line, source, translate)


def _row(line: Line, source: bytes, translate: _Translate) -> Row:
    try:
        if len(source) > MAX_LINE_BYTES:
            raise InvalidInput("", f"is longer than {MAX_LINE_BYTES} bytes")
        return Row(line.number, source, translate(source), line.end_bytes)
    except UNFIT as error:
        return Row(line.number, source, b"", line.end_bytes, str(error))


def _ndjson(line: bytes) -> bytes:
    if b"\r" in line:  # the gateway would take it for the end of a line
        raise InvalidInput("", "holds a carriage return; end lines with \\n or \\r\\n")
    return line


def _sagemaker(line: bytes, cell: Cell) -> bytes:
    record = _ground_truth.decode(line)
    cells = [one for row in csv.reader(record.ground_truth_data.data.splitlines()) for one in row]
    if len(cells) != 1:
        raise InvalidInput(
            "groundTruthData.data",
            f"holds {len(cells)} values where one label is due; label the rows of a batch "
            "with another format",
        )
    label = {"prediction_id": record.event_metadata.event_id, "label": cell(cells[0])}
    return msgspec.json.encode(label)
