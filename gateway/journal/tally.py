"""How many rows a worker has accepted, beside its journal: for rows that got no record.

Rules: every record of a prediction carries its writer's running count of accepted rows, so
rows without a record show as a gap in front of the next one. Behind the last record nothing
comes that could show them; there the tally does. It holds the same count, written in place
into a block that was there since the journal began, so it can be written on a full disk, and
like a record it survives the death of the process. It is written only for a row without a
record: a journal that refused none has a tally of 0.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

NAME = "tally"
_BYTES = 8


class Tally(NamedTuple):
    """Rows accepted up to the last one that got no record, and when that was."""

    accepted_rows: int
    at_us: int


def open_tally(folder: Path) -> int:
    """Make the file, its block taken, and return a descriptor to write it by."""
    descriptor = os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(descriptor, bytes(_BYTES))
    return descriptor


def write_tally(descriptor: int, accepted_rows: int) -> None:
    """Say that so many rows were accepted. Raises OSError."""
    os.pwrite(descriptor, accepted_rows.to_bytes(_BYTES, "little"), 0)


def read_tally(folder: Path) -> Tally | None:
    """The tally of a journal; None where no row of it went without a record."""
    try:
        with (folder / NAME).open("rb", buffering=0) as file:
            accepted_rows = int.from_bytes(file.read(_BYTES) or b"", "little")
            at_us = os.fstat(file.fileno()).st_mtime_ns // 1000
    except FileNotFoundError:
        return None
    return Tally(accepted_rows, at_us) if accepted_rows else None
