"""Names that callers choose, and the ids that we make.

A prediction id is 32 hexadecimal digits: milliseconds since the epoch (11), the id of the
journal writer (12), and that writer's counter (9). It is unique without any coordination,
survives restarts because a writer id is never used twice, and sorts by time.
"""

from __future__ import annotations

import re

from gateway.errors import InvalidName

#: The alphabet of names, as every description of them shows it; ".." is refused besides.
NAME_PATTERN = "[a-z0-9][a-z0-9._-]{0,62}"
_NAME = re.compile(NAME_PATTERN)
_PREDICTION_ID = re.compile(r"[0-9a-f]{32}")
WRITER_ID_DIGITS = 12


def require_name(kind: str, name: str) -> str:
    """Return `name`, or raise InvalidName; `kind` is what the message calls it."""
    if _NAME.fullmatch(name) is None or ".." in name:
        shown = name if len(name) <= 80 else name[:80] + "…"
        raise InvalidName(
            f"{kind} {shown!r}: use 1 to 63 of a-z, 0-9, '.', '_', '-', beginning with a "
            "letter or digit and without '..'"
        )
    return name


def prediction_id(*, at_ms: int, writer_id: str, counter: int) -> str:
    """The id of one request; `counter` must not repeat within a writer."""
    return f"{at_ms:011x}{writer_id}{counter:09x}"


def is_prediction_id(text: str) -> bool:
    """Whether `text` has the shape of an id of ours; it may still be unknown."""
    return _PREDICTION_ID.fullmatch(text) is not None
