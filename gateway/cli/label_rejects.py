"""What is said of refused rows: the first on standard error, and each in a file if one is given."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Literal

import msgspec

from gateway.cli.label_files import Row
from gateway.cli.session import note, usage_error

SHOWN = 20


class Rejects:
    """Tells of refused rows. Raises usage errors for a file that cannot be written."""

    def __init__(self, file: Path | None, *, place: Literal["line", "row"]) -> None:
        """`place` is what the rows' numbers count."""
        self._place = place
        self._told = 0
        try:
            self._file = None if file is None else file.open("wb")
        except OSError as error:
            raise _unwritable(error) from error

    def __enter__(self) -> Rejects:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def wants_all(self) -> bool:
        """Whether every refused row is asked for, or only the first."""
        return self._file is not None

    def add(self, rows: Iterable[Row]) -> None:
        """Tell of these, which have reasons."""
        for row in rows:
            if self._told < SHOWN:
                note(f"{self._place} {row.number}: {row.reason}")
            self._told += 1
            self._write(row)

    def _write(self, row: Row) -> None:
        if self._file is None:
            return
        source = row.source.decode(errors="replace")
        refused = {self._place: row.number, "reason": row.reason, "source": source}
        try:
            self._file.write(msgspec.json.encode(refused) + b"\n")
            self._file.flush()
        except OSError as error:
            raise _unwritable(error) from error


def _unwritable(error: OSError) -> Exception:
    return usage_error(f"--rejects cannot be written: {error.strerror or error}")
