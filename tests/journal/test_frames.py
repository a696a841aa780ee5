"""Frames: a good one is found wherever it lies, anything else is no frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.journal.frames import (
    HEADER_BYTES,
    MAGIC,
    Frame,
    frame_at,
    missing_bytes,
    next_frame,
    seal,
)


def sealed(payload: bytes) -> bytes:
    buffer = bytearray(HEADER_BYTES) + payload
    seal(buffer)
    return bytes(buffer)


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_a_sealed_payload_is_found_where_it_lies(payload: bytes, before: bytes) -> None:
    """`frame_at` gives the payload back, whatever stands in front and behind."""
    data = memoryview(before + sealed(payload) + before)
    start = len(before) + HEADER_BYTES
    assert frame_at(data, len(before)) == Frame(start, start + len(payload))


@given(st.binary(max_size=100))
def test_a_cut_frame_is_none_at_every_byte(payload: bytes) -> None:
    """However much of its end is missing, a frame is no frame, and it says what is missing."""
    whole = sealed(payload)
    for length in range(len(whole)):
        cut = memoryview(whole[:length])
        assert frame_at(cut, 0) is None
        expected = len(whole) - length if length >= HEADER_BYTES else 0
        assert missing_bytes(cut, 0) == expected


@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_changed_bit_is_noticed(payload: bytes, data: st.DataObject) -> None:
    """No single flipped bit of a frame goes unseen."""
    whole = bytearray(sealed(payload))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    assert frame_at(memoryview(whole), 0) is None


@given(st.binary(max_size=300))
def test_random_bytes_are_no_frame(noise: bytes) -> None:
    """Bytes that nobody sealed are never taken for a frame."""
    data = memoryview(noise)
    assert all(frame_at(data, position) is None for position in range(len(noise)))
    assert next_frame(data, 0) is None


@pytest.mark.parametrize("noise", [b"", MAGIC, MAGIC * 3, MAGIC + b"\xff" * 8, b"\xf5AJ"])
def test_the_next_good_frame_is_found_behind_noise(noise: bytes) -> None:
    """Neither half a magic nor a whole one with a wrong length hides the frame behind it."""
    data = memoryview(noise + sealed(b"here"))
    assert next_frame(data, 0) == len(noise)


def test_a_length_beyond_every_limit_is_waited_for_by_nobody() -> None:
    """A damaged length cannot ask for more bytes than a frame may have."""
    header = MAGIC + (0xFFFF_FFFF).to_bytes(4, "little") + bytes(4)
    assert missing_bytes(memoryview(header), 0) == 0
