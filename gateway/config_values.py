"""Values that configuration is written in, and how it is said what is wrong with one."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from gateway.core.nearest import did_you_mean
from gateway.core.split import WHOLE_BP

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+)\s*([smhdw]?)")
_CENTURY_S = 100 * 365 * 86_400
_SHOWN_COMPLAINTS = 8
#: A few lines of YAML can stand for a value of billions of elements.
_REPR = reprlib.Repr()
_REPR.maxlevel = 2

_Path = tuple[int | str, ...]


def _seconds(value: object) -> object:
    """`90`, `"90s"`, `"24h"` or `"7d"` in seconds; the environment has a bare number as text."""
    if isinstance(value, str) and not value.strip().isdecimal():
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError("a duration is a number and one of s, m, h, d, w, such as 24h")
        return int(match[1]) * _UNITS_S[match[2]]
    return value


def _basis_points(value: object) -> object:
    """`"5%"` or a number of basis points."""
    if isinstance(value, str) and value.strip().endswith("%"):
        percent = float(value.strip()[:-1])
        if not 0 <= percent <= 100:
            raise ValueError("a share lies between 0% and 100%")
        return round(percent * 100)
    return value


Seconds = Annotated[int, BeforeValidator(_seconds), Field(ge=0, le=_CENTURY_S)]
Share = Annotated[int, BeforeValidator(_basis_points), Field(ge=0, le=WHOLE_BP)]


def _no_keys(_path: _Path) -> Sequence[str]:
    return ()


def complaints(
    error: ValidationError,
    *,
    name: Callable[[str], str] = str,
    keys_at: Callable[[_Path], Sequence[str]] = _no_keys,
) -> str:
    """What is wrong, by path. `keys_at` gives the keys that there are below a path."""
    errors = error.errors(include_url=False)
    shown = [_complaint(one, name, keys_at) for one in errors[:_SHOWN_COMPLAINTS]]
    if len(errors) > len(shown):
        shown.append(f"and {len(errors) - len(shown)} more")
    return "; ".join(shown)


def _complaint(
    error: Any, name: Callable[[str], str], keys_at: Callable[[_Path], Sequence[str]]
) -> str:
    place = name(".".join(str(part) for part in error["loc"]))
    if error["type"] == "extra_forbidden":
        near = did_you_mean(str(error["loc"][-1]), keys_at(error["loc"][:-1]))
        return f"{place}: no such key{near}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{place or 'the file'}: {message}, not {_REPR.repr(error['input'])}"
