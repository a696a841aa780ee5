"""Who answers, and who is looked at: keyed hashes, so that every process agrees.

Rules: no randomness and no state. The same unit with the same salt always gets the same
version. When weights change, a version that grows only gains units and one that shrinks only
loses some; between versions that keep their weight nothing moves (weighted rendezvous
hashing, Schindelhauer & Schomaker 2005).
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from math import log

WHOLE_BP = 10_000
_TWO_64 = 2.0**64


def unit_hash(salt: bytes, unit: str) -> int:
    """A 64-bit hash of the unit; what the journal keeps instead of the unit itself."""
    return int.from_bytes(blake2b(unit.encode(), digest_size=8, key=salt).digest(), "little")


def assign(split: Mapping[str, int], *, salt: bytes, hashed_unit: int) -> str:
    """The version that answers this unit. `split` holds basis points that sum to 10,000."""
    best, best_score = "", float("inf")
    unit = hashed_unit.to_bytes(8, "little")
    for version, weight_bp in split.items():
        if weight_bp == 0:
            continue
        if weight_bp == WHOLE_BP:
            return version
        digest = blake2b(unit + version.encode(), digest_size=8, key=salt).digest()
        uniform = (int.from_bytes(digest, "little") + 0.5) / _TWO_64
        score = -log(uniform) / weight_bp
        if score < best_score:
            best, best_score = version, score
    return best


def is_sampled(prediction_id: str, *, key: bytes, probability_bp: int) -> bool:
    """Whether a challenger's shadow sees this prediction; the same answer in every process."""
    if probability_bp >= WHOLE_BP:
        return True
    digest = blake2b(prediction_id.encode(), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little") * WHOLE_BP < probability_bp * 2**64
