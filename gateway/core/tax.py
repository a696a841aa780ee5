"""The shadow tax: what the shadow adds to the champion's latency, from blocks with and without.

Rules: a round of blocks is one unit, because requests of a second share their fate; nothing
is said before there are enough rounds. Latencies are counted in bins 2.2% wide. The 99th
percentile is that of all requests of a kind together (the smallest value that at least 99% do
not exceed), and the interval resamples whole rounds: the percentile bootstrap of Efron and
Tibshirani, An Introduction to the Bootstrap (1993), chapter 13, on clusters as in Davison and
Hinkley, Bootstrap Methods and their Application (1997), section 3.8. It is an interval for one
look; who looks after every round and waits for a bound to be crossed is wrong more often.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.core.arrays import Floats

#: With fewer rounds a percentile bootstrap is far too narrow.
MIN_ROUNDS = 15
#: A 99th percentile of fewer requests is their maximum.
MIN_ROWS = 300
LEVEL = 0.95
#: Comparisons are delayed by a throttle and never given up, so it must not come to a halt.
LEAST_DUTY = 1 / 64
_QUANTILE = 0.99
_BINS_AN_OCTAVE = 32
BINS = 30 * _BINS_AN_OCTAVE
_RESAMPLES = 1000

Counts = npt.NDArray[np.int64]


class TaxRound(msgspec.Struct, frozen=True):
    """Champion latencies of one round, counted in `BINS` bins: shadow on, and off."""

    on: Counts
    off: Counts


class Tax(msgspec.Struct, frozen=True):
    """How much higher the champion's p99 is with the shadow on, with a 95% interval.

    Milliseconds; `rounds` is the n of the interval, the requests are those of its percentiles.
    """

    rounds: int
    requests_on: int
    requests_off: int
    p99_on_ms: float
    p99_off_ms: float
    difference_ms: float
    lower_ms: float
    upper_ms: float


def histogram(latencies_us: Sequence[int]) -> Counts:
    """int64[BINS]: how many latencies fall into each bin; those below 1 µs into the first."""
    octaves = np.log2(np.maximum(np.asarray(latencies_us, dtype=np.float64), 1.0))
    bins = np.minimum((octaves * _BINS_AN_OCTAVE).astype(np.int64), BINS - 1)
    return np.bincount(bins, minlength=BINS)


def estimate(rounds: Sequence[TaxRound], *, seed: int) -> Tax | None:
    """The tax that these rounds show; None while there are too few rounds or requests.

    A round counts if it has requests of both kinds.
    """
    both = [one for one in rounds if one.on.any() and one.off.any()]
    if len(both) < MIN_ROUNDS:
        return None
    on, off = np.stack([one.on for one in both]), np.stack([one.off for one in both])
    bins = np.flatnonzero((on + off).any(axis=0))  # of a thousand bins few are in use
    on, off = on[:, bins], off[:, bins]
    if min(on.sum(), off.sum()) < MIN_ROWS:
        return None
    weights = np.random.default_rng(seed).multinomial(
        len(both), np.full(len(both), 1 / len(both)), size=_RESAMPLES
    )
    differences = _p99_ms(weights @ on, bins) - _p99_ms(weights @ off, bins)
    lower, upper = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    (p99_on,), (p99_off,) = (_p99_ms(kind.sum(axis=0)[None], bins) for kind in (on, off))
    return Tax(
        rounds=len(both),
        requests_on=int(on.sum()),
        requests_off=int(off.sum()),
        p99_on_ms=float(p99_on),
        p99_off_ms=float(p99_off),
        difference_ms=float(p99_on - p99_off),
        lower_ms=float(lower),
        upper_ms=float(upper),
    )


def _p99_ms(counts: Counts, bins: Counts) -> Floats:
    """The 99th percentile of each row of counts over `bins`, as the middle of its bin."""
    cumulated = counts.cumsum(axis=1)
    needed = np.ceil(_QUANTILE * cumulated[:, -1:])
    found = bins[(cumulated >= needed).argmax(axis=1)]
    middles_us: Floats = np.exp2((found + 0.5) / _BINS_AN_OCTAVE)
    return middles_us / 1000


def next_duty(duty: float, taxes: Sequence[Tax | None], *, budget_ms: float) -> float:
    """The share of its time that the shadow may work from now on, given each endpoint's tax.

    Halved when the whole interval of one endpoint lies above the budget. Doubled, up to 1,
    when every known one lies below half of the budget, so that twice the work is expected to
    keep it. Otherwise, and where nothing is known, it stays.
    """
    known = [tax for tax in taxes if tax is not None]
    if any(tax.lower_ms > budget_ms for tax in known):
        return max(duty / 2, LEAST_DUTY)
    if known and all(tax.upper_ms <= budget_ms / 2 for tax in known):
        return min(duty * 2, 1.0)
    return duty
