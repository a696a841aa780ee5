"""Formats of columns: which columns there may be, what a row of cells becomes, and CSV.

CSV has no types, so a cell is a number where it reads as one. A comma separates, the first row
names the columns, quotes are doubled; anything else is no CSV here, because a guess that is
wrong once in a million rows would be a wrong label.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from gateway.cli.label_files.rows import MAX_LINE_BYTES, UNFIT, Cell, Row, lines, scalar, shown
from gateway.cli.session import usage_error
from gateway.errors import InvalidInput

COLUMNS = ("prediction_id", "row", "label", "observed_at")
REQUIRED = ("prediction_id", "label")
ATTRIBUTE = "attributes."

_Reading = Callable[[str], Any]


def require_columns(names: Sequence[str]) -> None:
    """Raise a usage error where a column is missing, unknown or there twice."""
    known = f"use {', '.join(COLUMNS)} and {ATTRIBUTE}<name>"
    for name in REQUIRED:
        if name not in names:
            raise usage_error(f"there is no column {name!r}; {known}")
    for name in names:
        if name not in COLUMNS and (not name.startswith(ATTRIBUTE) or name == ATTRIBUTE):
            raise usage_error(f"column {name!r} is unknown; {known}")
    if len(set(names)) < len(names):
        raise usage_error("a column is there twice")


def encoded(names: Sequence[str], cells: Sequence[Any]) -> bytes:
    """A row as JSON; a cell that is None is left out."""
    document: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    for name, cell in zip(names, cells, strict=True):
        if cell is None:
            continue
        if name.startswith(ATTRIBUTE):
            attributes[name.removeprefix(ATTRIBUTE)] = cell
        else:
            document[name] = cell
    if attributes:
        document["attributes"] = attributes
    return msgspec.json.encode(document)


def csv_rows(file: Path, label: Cell) -> Iterator[Row]:
    """The rows below the header, each with the number of its first line."""
    with file.open("rb") as content:
        source = _Texts(content)
        reader = csv.reader(source, strict=True)
        try:
            names = [name.strip() for name in next(reader, [])]
            require_columns(names)
            readings = [_reading(name, label) for name in names]
            number = source.number + 1
            for cells in reader:
                if cells:
                    yield _csv_row(number, source.end_bytes, names, readings, cells)
                number = source.number + 1
        except csv.Error as error:
            raise usage_error(f"line {source.number} is no CSV: {error}") from error


class _Texts:
    """The lines as text, and how far they have been read."""

    def __init__(self, content: BinaryIO) -> None:
        self.number = 0
        self.end_bytes = 0
        self._lines = lines(content)

    def __iter__(self) -> Iterator[str]:
        for number, line, end_bytes in self._lines:
            self.number, self.end_bytes = number, end_bytes
            if len(line) > MAX_LINE_BYTES:
                raise csv.Error(f"longer than {MAX_LINE_BYTES} bytes")
            # What is not UTF-8 is found out, and refused, with the row that it is in.
            yield line.decode(errors="surrogateescape")


def _reading(name: str, label: Cell) -> _Reading:
    if name == "row":
        return _row_number
    if name == "label":
        return label
    return scalar if name.startswith(ATTRIBUTE) else str


def _row_number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else text


def _csv_row(
    number: int, end: int, names: list[str], readings: list[_Reading], cells: list[str]
) -> Row:
    try:
        if len(cells) != len(names):
            raise InvalidInput("", f"has {len(cells)} cells where the header has {len(names)}")
        sent = encoded(names, _values(names, readings, cells))
        return Row(number, sent, sent, end)
    except UNFIT as error:
        return Row(number, shown(cells), b"", end, str(error))


def _values(names: list[str], readings: list[_Reading], cells: list[str]) -> list[Any]:
    values = []
    for name, reading, cell in zip(names, readings, cells, strict=True):
        try:
            values.append(reading(cell) if cell else None)
        except InvalidInput as error:
            raise InvalidInput(name, str(error)) from None
    return values
