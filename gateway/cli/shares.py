"""Shares of traffic as people write them, in basis points: no float ever rounds a share away."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from gateway.cli.session import usage_error
from gateway.core.split import WHOLE_BP


def share_bp(text: str) -> int:
    """`25%` or `2500` (basis points) as 2500."""
    is_percent = text.endswith("%")
    return _basis_points(text.removesuffix("%"), is_percent=is_percent)


def weights_bp(pairs: Sequence[str], *, is_percent: bool) -> dict[str, int]:
    """`["1=9000", "2=1000"]` as weights that sum to 10,000."""
    weights: dict[str, int] = {}
    for pair in pairs:
        version, separator, share = pair.rpartition("=")
        if not separator or not version:
            raise usage_error(f"{pair!r} is not VERSION=SHARE, such as 2=1000")
        if version in weights:
            raise usage_error(f"version {version} is given twice")
        weights[version] = _basis_points(share.removesuffix("%"), is_percent=is_percent)
    total = sum(weights.values())
    if total != WHOLE_BP:
        raise usage_error(f"the shares sum to {total} basis points, not {WHOLE_BP} (100%)")
    return weights


def _basis_points(text: str, *, is_percent: bool) -> int:
    try:
        share = Decimal(text) * (100 if is_percent else 1)
        whole = int(share)
    except (InvalidOperation, ValueError, OverflowError):
        raise usage_error(f"{text!r} is no share; write 25% or 2500 (basis points)") from None
    if share != whole or not 0 <= whole <= WHOLE_BP:
        raise usage_error(f"{text}: a share is 0 to 100%, in steps of 0.01%")
    return whole
