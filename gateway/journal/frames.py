"""One frame: magic, payload length, CRC32 of the payload seeded with its length, payload.

Pure bytes; knows nothing of files or of what a record means.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

MAGIC = b"\xf5AJ\x01"
HEADER_BYTES = 12
#: No frame may be larger: a damaged length must not make a reader wait for ever.
MAX_PAYLOAD_BYTES = 1 << 30

_HEADER = struct.Struct("<4sII")


class Frame(NamedTuple):
    """A good frame in a buffer: where its payload lies."""

    start: int
    end: int


def seal(buffer: bytearray) -> None:
    """Fill in the header of `buffer`, which holds the payload behind 12 spare bytes."""
    length = len(buffer) - HEADER_BYTES
    checksum = crc32(memoryview(buffer)[HEADER_BYTES:], length)
    _HEADER.pack_into(buffer, 0, MAGIC, length, checksum)


def frame_at(data: memoryview, position: int) -> Frame | None:
    """The good frame that begins at `position`, or None if there is none (yet)."""
    start = position + HEADER_BYTES
    if start > len(data):
        return None
    magic, length, checksum = _HEADER.unpack_from(data, position)
    end = start + length
    if magic != MAGIC or length > MAX_PAYLOAD_BYTES or end > len(data):
        return None
    if crc32(data[start:end], length) != checksum:
        return None
    return Frame(start, end)


def missing_bytes(data: memoryview, position: int) -> int:
    """How many more bytes the frame at `position` needs by its own header; 0 if unknown."""
    if len(data) - position < HEADER_BYTES:
        return 0
    magic, length, _ = _HEADER.unpack_from(data, position)
    if magic != MAGIC or length > MAX_PAYLOAD_BYTES:
        return 0
    return max(0, position + HEADER_BYTES + int(length) - len(data))


def next_frame(data: memoryview, position: int) -> int | None:
    """Where the next good frame after a bad one begins; None if there is none."""
    whole = bytes(data)
    found = whole.find(MAGIC, position)
    while found >= 0:
        if frame_at(data, found) is not None:
            return found
        found = whole.find(MAGIC, found + 1)
    return None
