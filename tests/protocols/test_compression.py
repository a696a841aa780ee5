"""What comes packed is inflated within bounds; what is asked for packed is negotiated."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BodyTooLarge, InvalidInput
from gateway.protocols.compression import PACKED_FROM_BYTES, coding_for, decompress, packed

LIMIT = 1000


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_a_bomb_is_not_inflated(encoding: bytes) -> None:
    """Thirty megabytes of zeros in thirty kilobytes: no more than the limit is made of it."""
    packed = (gzip.compress if encoding == b"gzip" else zlib.compress)(b"\0" * (30 << 20))
    tracemalloc.start()
    with pytest.raises(BodyTooLarge):
        decompress(packed, encoding, limit_bytes=LIMIT)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 100 * LIMIT


def _broken() -> Iterator[tuple[bytes, str]]:
    whole = gzip.compress(b"x" * 500, mtime=0)
    yield b"", "cut off"
    yield whole[:-9], "cut off"
    yield b"no gzip", "cannot be decompressed as gzip"
    yield whole[:20] + b"\xff" * 20, "cannot be decompressed|cut off"
    yield whole + b"more", "bytes follow the end"
    yield whole + whole, "bytes follow the end"


@pytest.mark.parametrize(("packed", "said"), list(_broken()))
def test_a_broken_stream_is_refused(packed: bytes, said: str) -> None:
    """Nothing of a body is dropped in silence, neither its end nor what follows it."""
    with pytest.raises(InvalidInput, match=said):
        decompress(packed, b"gzip", limit_bytes=LIMIT)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (b"gzip", b"gzip"),
        (b"deflate", b"deflate"),
        (b"GZIP;Q=0.5", b"gzip"),
        (b"gzip, deflate, br, zstd", b"gzip"),
        (b"deflate, gzip", b"gzip"),
        (b"gzip;q=0.5,deflate;q=0.8", b"deflate"),
        (b"gzip;q=0, *", b"deflate"),
        (b"*", b"gzip"),
        (b"identity;q=0.5, gzip", b"gzip"),
        (b"gzip, identity", b"gzip"),
        (b"", b""),
        (b"identity", b""),
        (b"br", b""),
        (b"gzip;q=0", b""),
        (b"gzip;q=0.000", b""),
        (b"*;q=0", b""),
        (b"gzip;q=0.5, identity;q=0.8", b""),
        (b"gzip;q=2", b""),
        (b"gzip;level=9", b""),
        (b"gzip;q=0.1234", b""),
        (b"gzip" + b" " * 300, b""),
    ],
)
def test_the_coding_is_the_one_that_the_client_likes_best(accepted: bytes, coding: bytes) -> None:
    """By weight, gzip before deflate; what makes no sense is as if it were not there."""
    assert coding_for(accepted, PACKED_FROM_BYTES) == coding


def test_short_answers_go_as_they_are() -> None:
    """Unless the client refuses just that; and who says nothing is never sent a coding."""
    assert coding_for(b"gzip", PACKED_FROM_BYTES - 1) == b""
    assert coding_for(b"gzip, identity;q=0", 1) == b"gzip"
    assert coding_for(b"deflate, *;q=0", 1) == b"deflate"
    assert coding_for(None, 10**9) == b""


@given(st.binary(max_size=80))
def test_no_header_however_odd_is_an_error(accepted: bytes) -> None:
    """Any bytes mean some coding of ours, or none."""
    assert coding_for(accepted, PACKED_FROM_BYTES) in (b"gzip", b"deflate", b"")


@pytest.mark.parametrize("size", [0, 5000, 300_000])
def test_what_is_packed_is_what_the_standard_library_unpacks(size: int) -> None:
    """Small bodies at once, large ones in a thread."""
    body = (b"audition" * (size // 8 + 1))[:size]
    assert gzip.decompress(asyncio.run(packed(body, b"gzip"))) == body
    assert zlib.decompress(asyncio.run(packed(body, b"deflate"))) == body
