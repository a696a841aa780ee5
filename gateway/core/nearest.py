"""What somebody may have meant by a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN = 8


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?` with the nearest of the known words, or nothing where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def listed(names: Iterable[object]) -> str:
    """The first few names, and how many there are besides."""
    words = [str(name) for name in names]
    rest = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return (", ".join(words[:_SHOWN]) or "none") + rest
