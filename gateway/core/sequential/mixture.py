"""The e-process: a mixture of bets whose stakes were fixed before the first row.

    log E(m) = logsumexp_k [ log w_k + Σ_b count_b · log(1 + λ_k (d_b − m)/(1 + m)) ]

"The average advantage, given the past, is at most m" is rejected once E(m) ≥ 1/level.

Rules: E is a function of the histogram alone, so it does not depend on order, batches or
how often anyone looked; no bet may read the data it is placed on. Fixed stakes hold under
drift and cycles: Π(1 + λxᵢ)/Π(1 + λE[xᵢ]) is a martingale and Π(1 + λE[xᵢ]) ≤
exp(λ ΣE[xᵢ]) ≤ 1 under the null, hence Ville's inequality (Waudby-Smith & Ramdas 2023;
Choe & Ramdas). Stakes that track recent rows do not: on a weekly cycle they promote falsely.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from gateway.core.arrays import Floats
from gateway.core.evidence import SCALE, Histogram

#: numpy.geomspace(0.01, 0.9, 16) as literals: libraries differ in the last bit.
LAMBDAS = (
    0.01,
    0.013498416798059317,
    0.018220725605412994,
    0.024595094858493642,
    0.03319948415877527,
    0.04481404746557166,
    0.06049186910983,
    0.08165444621381349,
    0.11022057484087709,
    0.14878032589238493,
    0.20082988502465085,
    0.27108854935690685,
    0.36592662284008054,
    0.49394300726016593,
    0.6667448586484559,
    0.9,
)

#: How far a lower bound may lie below the exact one, in advantage; never above it.
TOLERANCE = 2.0**-20

_MERGED_BINS = 2_048
_BLOCK_BINS = 4_096  # 16 stakes by so many bins stay in the processor's cache


class Mixture(msgspec.Struct, frozen=True):
    """Stakes λ in (0, 1) and their weights, which sum to 1."""

    lambdas: tuple[float, ...]
    weights: tuple[float, ...]


FIXED = Mixture(LAMBDAS, (1 / 16,) * 16)


def matched(minimum_effect: float, disagreement_rate: float) -> Mixture:
    """Half the weight on the stake that grows fastest if the advantage is the minimum effect.

    For rows under 0/1 loss: λ* = min(0.9, MDE/ρ̂), the maximiser of E[log(1 + λd)].
    """
    stake = min(0.9, minimum_effect / disagreement_rate)
    return Mixture((*LAMBDAS, stake), (*(1 / 32,) * 16, 0.5))


def log_wealth(histogram: Histogram, m: float, mixture: Mixture = FIXED) -> float:
    """log E(m) for m in (−1, 1]; 0.0 without observations. Falls as m grows."""
    return _log_wealth(histogram.values / SCALE, histogram.counts.astype(np.float64), m, mixture)


def lower_bound(
    histogram: Histogram, log_threshold: float, mixture: Mixture = FIXED, *, decided_at: float = 0.0
) -> float:
    """The greatest m found with log E(m) ≥ log_threshold; −1.0 where there is none.

    By bisection to within TOLERANCE, from below: the bound returned was itself rejected.
    The first m tried is `decided_at`, so bound ≥ decided_at exactly when a decision at
    that m with the same threshold rejects.
    """

    def rejects(m: float) -> bool:
        return log_wealth(histogram, m, mixture) >= log_threshold

    low, high = _narrowed((-1.0, 1.0), decided_at, rejects)
    if len(histogram.values) > _MERGED_BINS:
        guess = _guess(histogram, log_threshold, mixture)
        for probe in (guess - TOLERANCE / 2, guess + TOLERANCE / 2):
            low, high = _narrowed((low, high), probe, rejects)
    return _bisected((low, high), rejects)[0]


def _log_wealth(advantages: Floats, counts: Floats, m: float, mixture: Mixture) -> float:
    stakes = np.array(mixture.lambdas)[:, np.newaxis] / (1.0 + m)
    growths = np.zeros(len(stakes))
    for start in range(0, len(counts), _BLOCK_BINS):
        block = slice(start, start + _BLOCK_BINS)
        logs = np.log1p(stakes * (advantages[block] - m))
        growths += (logs * counts[block]).sum(axis=1)
    return float(np.logaddexp.reduce(np.log(mixture.weights) + growths))


def _narrowed(
    bracket: tuple[float, float], probe: float, rejects: Callable[[float], bool]
) -> tuple[float, float]:
    """The half of the bracket (rejected, not rejected) that `probe` leaves."""
    low, high = bracket
    if not low < probe < high:
        return bracket
    return (probe, high) if rejects(probe) else (low, probe)


def _bisected(
    bracket: tuple[float, float], rejects: Callable[[float], bool]
) -> tuple[float, float]:
    while bracket[1] - bracket[0] > TOLERANCE:
        bracket = _narrowed(bracket, sum(bracket) / 2, rejects)
    return bracket


def _guess(histogram: Histogram, log_threshold: float, mixture: Mixture) -> float:
    """Where the bound should be, from neighbouring bins merged into their mean.

    Only ever a place to look: what it suggests is tried on the histogram itself, and if it
    is wrong the bisection goes on from there.
    """
    advantages, counts = _merged(histogram)

    def rejects(m: float) -> bool:
        return _log_wealth(advantages, counts, m, mixture) >= log_threshold

    low, high = _bisected((-1.0, 1.0), rejects)
    return (low + high) / 2


def _merged(histogram: Histogram) -> tuple[Floats, Floats]:
    width = 2 * SCALE // _MERGED_BINS
    bins = (histogram.values + SCALE) // width
    counts = np.bincount(bins, histogram.counts).astype(np.float64)
    sums = np.bincount(bins, histogram.values * histogram.counts)
    occupied = counts > 0
    return sums[occupied] / counts[occupied] / SCALE, counts[occupied]
