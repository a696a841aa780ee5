"""A row of a label file, and what formats of lines and texts share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import msgspec

from gateway.errors import InvalidInput

#: No label is longer; what is, is no line of labels, and must not fill the memory.
MAX_LINE_BYTES = 1 << 20

#: A cell of text → the value it says. Raises InvalidInput.
Cell = Callable[[str], float | bool | str]

#: What makes one row unfit to be sent, and never the file.
UNFIT = (InvalidInput, msgspec.DecodeError, UnicodeError, RecursionError)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NON_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_BOOLEANS = {"true": True, "false": False}
_BOM = b"\xef\xbb\xbf"


class Row(msgspec.Struct, gc=False):
    """One row of a file. `sent` is its JSON, empty where `reason` says why it is refused."""

    number: int  # its line, or its row in a Parquet file, from 1
    source: bytes  # what was read, or `sent` where the format has no lines
    sent: bytes
    end_bytes: int  # how much of the file has been read with it
    reason: str = ""


class Line(NamedTuple):
    """A line with its end; of one that is too long, only the beginning."""

    number: int
    content: bytes
    end_bytes: int


def lines(file: BinaryIO) -> Iterator[Line]:
    """The lines of a file, in memory that its longest line does not decide."""
    number = end = 0
    while content := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        end += len(content) + _skipped(file, content)
        yield Line(number, content.removeprefix(_BOM) if number == 1 else content, end)


def _skipped(file: BinaryIO, part: bytes) -> int:
    """Read on to the end of the line that `part` begins; the bytes that were left out."""
    skipped = 0
    while len(part) > MAX_LINE_BYTES and not part.endswith(b"\n"):
        part = file.readline(MAX_LINE_BYTES + 1)
        skipped += len(part)
    return skipped


def scalar(text: str) -> float | bool | str:
    """What a text says in a format without types: a number, true, false, or itself."""
    if _NUMBER.fullmatch(text) is None and _NON_FINITE.fullmatch(text) is None:
        return _BOOLEANS.get(text.lower(), text)
    number = float(text)
    if not math.isfinite(number):
        raise InvalidInput("", f"{text[:40]!r} is no finite number")
    return number


def shown(value: Any) -> bytes:
    """What was read, as JSON that is always UTF-8."""
    text = msgspec.json.encode([str(one).encode(errors="replace").decode() for one in value])
    return text[:MAX_LINE_BYTES]
