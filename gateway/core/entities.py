"""Which rows make one observation together, and when it may be judged.

An entity (a flight date, a user) speaks once: for the rows in a window that opens at its
first row after the registration. Rules: time alone decides, in any order of rows; a row
after its entity's window is in no observation, and is counted.
"""

from __future__ import annotations

import msgspec
import numpy as np

from gateway.core.arrays import Bools, Ints


class Windows(msgspec.Struct, frozen=True):
    """For n rows: which lie in their entity's window, and which of those may be judged."""

    inside: Bools
    due: Bools


def windows(
    entity_codes: Ints, occurred_at_us: Ints, *, window_us: int, horizon_us: int, cut_us: int
) -> Windows:
    """The windows of whole entities, given every row of theirs since the registration.

    An entity is due once the endpoint's clock `cut_us` has passed the end of its window
    and the maturity horizon after it; only then can no further row or label count.
    """
    _, codes = np.unique(entity_codes, return_inverse=True)
    opened_us = np.full(codes.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(opened_us, codes, occurred_at_us)
    closes_us = opened_us[codes] + window_us
    inside = occurred_at_us <= closes_us
    return Windows(inside=inside, due=inside & (closes_us + horizon_us < cut_us))
