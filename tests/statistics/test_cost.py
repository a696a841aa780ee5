"""Bar 8: a million observations become a verdict with its interval in no time.

How many seconds that is, `make bench` says. Here it is held against a fixed loop of the same
processor, and against a tenth of the rows; both are CPU time of this thread, so that neither
asks how busy the machine is.
"""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time

import pytest

from gateway.core.evidence import SCALE
from gateway.core.observations import Observations, gather
from loadtests.bench_statistics import ROWS, judged, observed

#: Measured: 5.5 for Brier loss and 2 for 0/1; counting rows in a dictionary makes it 43.
MOST_LOOPS = 15
#: Sorting takes 12 times as long for ten times the rows, and caches make it 20; what looks at
#: every pair of rows takes 100.
MOST_GROWTH = 50


def least_s(timed: Callable[[], object]) -> float:
    """CPU seconds of this thread, the least of several times."""

    def once() -> float:
        begun = thread_time()
        timed()
        return thread_time() - begun

    return min(once() for _ in range(5))


def cost_s(observations: Observations) -> float:
    """From observed rows to verdict and interval."""
    return least_s(lambda: judged(gather(observations)))


@pytest.mark.parametrize("metric", ["brier", "zero_one"])
def test_a_million_observations_cost_no_more_than_a_few_loops(metric: str) -> None:
    """One core, and no cost that grows faster than sorting does."""
    whole = cost_s(observed(metric, rows=ROWS))
    assert whole <= MOST_LOOPS * least_s(lambda: sum(range(ROWS)))
    assert whole <= MOST_GROWTH * cost_s(observed(metric, rows=ROWS // 10))


@pytest.mark.parametrize(("metric", "most"), [("brier", 2 * SCALE + 1), ("zero_one", 3)])
def test_a_look_is_at_bins_and_not_at_rows(metric: str, most: int) -> None:
    """What the judge reads is bounded, however many observations there were."""
    gathered = gather(observed(metric, rows=ROWS))
    assert gathered.benefit.n == ROWS
    assert max(len(gathered.benefit.values), len(gathered.harm.values)) <= most < ROWS
