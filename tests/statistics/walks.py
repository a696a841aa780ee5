"""Exact chances for any rule that decides by wins and losses among disagreements.

A rule that more wins can only help has, at each number n of disagreements, a least number
of wins that rejects. Between n and n + 1 it grows by 0 or 1, so all of it is found with two
questions a step, and a dynamic programme over the walk gives the chance of ever crossing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gateway.core.arrays import Floats, Ints
from gateway.core.evidence import SCALE, Evidence, Histogram


def histogram(wins: int, losses: int, ties: int = 0) -> Histogram:
    """`wins` observations of +1, `losses` of −1, `ties` of 0."""
    values = np.array([-SCALE, 0, SCALE], dtype=np.int64)
    counts = np.array([losses, ties, wins], dtype=np.int64)
    return Histogram(values[counts > 0], counts[counts > 0])


def evidence(wins: int, losses: int, ties: int = 0) -> Evidence:
    """The evidence of labelled rows under 0/1 loss."""
    return Evidence(benefit=histogram(wins, losses, ties), harm=histogram(losses, wins, ties))


def boundary(rejects: Callable[[int, int], bool], most: int) -> Ints:
    """The least wins that reject at n = 0..most disagreements; n + 1 where none does."""
    least = np.empty(most + 1, dtype=np.int64)
    wins = 0
    for n in range(most + 1):
        while wins <= n and not rejects(wins, n - wins):
            wins += 1
        least[n] = wins
    return least


def first_crossings(least: Ints, theta: float) -> Floats:
    """P(the walk first rejects at n), n = 0..most, if each disagreement is a win by θ."""
    most = len(least) - 1
    alive = np.zeros(most + 2)
    alive[0] = 1.0
    crossed = np.zeros(most + 1)
    for n in range(1, most + 1):
        alive[1:] = alive[1:] * (1.0 - theta) + alive[:-1] * theta
        alive[0] *= 1.0 - theta
        crossed[n] = alive[least[n] :].sum()
        alive[least[n] :] = 0.0
    return crossed


def ever(least: Ints, theta: float) -> float:
    """P(the walk rejects at any look up to the last)."""
    return float(first_crossings(least, theta).sum())


def power(least: Ints, theta: float) -> tuple[float, int, float]:
    """P(reject by the end), the median, and the mean disagreements given rejection."""
    crossed = first_crossings(least, theta)
    total = float(crossed.sum())
    median = int(np.searchsorted(np.cumsum(crossed), 0.5))
    mean = float((crossed * np.arange(len(crossed))).sum() / total)
    return total, median, mean
