"""Ids and the clock: the two things that pure code is handed from outside."""

from __future__ import annotations

import secrets
import time

from gateway.core.names import WRITER_ID_DIGITS


def new_writer_id() -> str:
    """The id of a journal writer; random, so that no two hosts need to agree."""
    return secrets.token_hex(WRITER_ID_DIGITS // 2)


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000
