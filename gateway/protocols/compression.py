"""Content codings: bodies that come packed, and answers that are asked for packed.

Rules: gzip and deflate, nothing else. What comes in is never inflated past a limit; what goes
out is packed only for who asks, and only where that makes it smaller. An answer of a few
hundred bytes fits one packet anyway, so it goes as it is: most HTTP libraries ask always.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from functools import lru_cache

import msgspec

from gateway.errors import BodyTooLarge, InvalidInput, UnsupportedEncoding

#: Shorter answers are not packed, unless the client refuses them as they are.
PACKED_FROM_BYTES = 1024
#: From here on packing takes so long that other requests would wait for it.
_THREADED_FROM_BYTES = 64 << 10
#: Fast: a higher level costs three times as much for a few percent of tensor data.
_LEVEL = 1
_LONGEST_HEADER = 256
_WBITS = {b"gzip": 31, b"deflate": 15}
_WEIGHT = re.compile(rb"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)


def decompress(body: bytes, encoding: bytes, *, limit_bytes: int) -> bytes:
    """A gzip or deflate body. Raises BodyTooLarge before more than the limit is made of it."""
    name = encoding.strip().lower()
    if name in (b"identity", b""):
        return body
    if name not in _WBITS:
        shown = name[:40].decode("latin-1")
        raise UnsupportedEncoding("Content-Encoding", f"{shown!r} is unknown; use gzip or deflate")
    inflater = zlib.decompressobj(wbits=_WBITS[name])
    try:
        inflated = inflater.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise InvalidInput("body", f"cannot be decompressed as {name.decode()}") from error
    if len(inflated) > limit_bytes:
        raise too_large(limit_bytes)
    if not inflater.eof:
        raise InvalidInput("body", f"the {name.decode()} stream is cut off")
    if inflater.unused_data:
        raise InvalidInput("body", f"bytes follow the end of the {name.decode()} stream")
    return inflated


def too_large(limit_bytes: int) -> BodyTooLarge:
    """The refusal of a body over the limit, packed or not."""
    return BodyTooLarge(
        "body", f"more than {limit_bytes} bytes; send smaller batches (or raise max_body_bytes)"
    )


class _Wish(msgspec.Struct, frozen=True):
    """What a client wants: a coding, empty for none, and whether it takes an answer as it is."""

    coding: bytes
    plain_is_fine: bool


_AS_IT_IS = _Wish(b"", plain_is_fine=True)


def coding_for(accepted: bytes | None, size_bytes: int) -> bytes:
    """How to pack an answer for this Accept-Encoding; empty: not at all.

    Who accepts no coding of ours, not even none, is answered as it is (RFC 9110, 12.5.3).
    """
    if accepted is None or len(accepted) > _LONGEST_HEADER:
        return b""
    wish = _wish(accepted)
    return wish.coding if size_bytes >= PACKED_FROM_BYTES or not wish.plain_is_fine else b""


@lru_cache(maxsize=256)
def _wish(accepted: bytes) -> _Wish:
    weights = _weights(accepted)
    others = weights.get(b"*", 0.0)
    gzip, deflate = (weights.get(name, others) for name in (b"gzip", b"deflate"))
    plain = weights.get(b"identity", others if b"*" in weights else None)
    best = max(gzip, deflate)
    if best == 0.0 or (plain is not None and plain > best):
        return _AS_IT_IS
    return _Wish(b"gzip" if gzip == best else b"deflate", plain_is_fine=plain != 0.0)


def _weights(accepted: bytes) -> dict[bytes, float]:
    weights: dict[bytes, float] = {}
    for element in accepted.lower().split(b","):
        name, _, parameter = (part.strip() for part in element.partition(b";"))
        weight = _WEIGHT.fullmatch(parameter) if parameter else None
        if not parameter:
            weights[name] = 1.0
        elif weight is not None:  # what makes no sense is as if it were not there
            weights[name] = float(weight[1])
    return weights


async def packed(body: bytes, coding: bytes) -> bytes:
    """The body in this coding, in a thread if that takes long."""
    if len(body) < _THREADED_FROM_BYTES:
        return _pack(body, coding)
    return await asyncio.to_thread(_pack, body, coding)


def _pack(body: bytes, coding: bytes) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WBITS[coding])
    return packer.compress(body) + packer.flush()
