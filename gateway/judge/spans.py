# ruff: noqa: S608 - the only names in this SQL are ours
"""The times of one pass, and which files hold rows of them."""

from __future__ import annotations

import msgspec

from gateway.archive.comparisons import Scope
from gateway.archive.manifest import ArchiveFile
from gateway.archive.tables import ArchiveReader, Keep, overlaps

BEGINNING_US = -(2**62)
_US_PER_S = 1_000_000


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """The times of one pass, in microseconds of the endpoint's clock.

    Rows with `after_us` < t ≤ `upto_us` have their turn; `before_us` is the cut of the pass
    before, None in the first.
    """

    before_us: int | None
    cut_us: int
    maturity_us: int
    window_us: int

    @property
    def after_us(self) -> int:
        """Rows up to here had their turn before."""
        return BEGINNING_US if self.before_us is None else self.before_us - self.maturity_us

    @property
    def upto_us(self) -> int:
        """Rows after this have their turn later."""
        return self.cut_us - self.maturity_us

    @property
    def windows_after_us(self) -> int:
        """Windows that opened up to here were included before."""
        return BEGINNING_US if self.before_us is None else self.after_us - self.window_us

    @property
    def windows_upto_us(self) -> int:
        """Windows that opened after this are included later."""
        return self.upto_us - self.window_us


def span_of(scope: Scope, *, before_us: int | None, cut_us: int) -> Span:
    """The times of a pass up to `cut_us`; a cut never goes back."""
    terms = scope.registration.terms
    return Span(
        before_us=before_us,
        cut_us=cut_us if before_us is None else max(cut_us, before_us),
        maturity_us=terms.maturity_s * _US_PER_S,
        window_us=terms.entity.window_s * _US_PER_S,
    )


def at_times(scope: Scope, after_us: int, upto_us: int) -> Keep:
    """Keep files that may hold a row with `after_us` < t ≤ `upto_us`."""
    by_client = scope.registration.terms.event_time == "client"

    def keep(file: ArchiveFile) -> bool:
        times = file.occurred_at_us if by_client else file.accepted_at_us
        return times is not None and times[0] <= upto_us and times[1] > after_us

    return keep


def of_ids(table: str, reader: ArchiveReader) -> Keep:
    """Keep files that may hold a row of a table that is held."""
    (ids,) = reader.table(
        f"SELECT min(prediction_id) AS least, max(prediction_id) AS greatest FROM {table}"
    ).to_pylist()
    if ids["least"] is None:
        return lambda _file: False
    return overlaps((ids["least"], ids["greatest"]))
