"""How long a million observations take to become a verdict with its interval.

Bar: at most 0.1 s on one core from quantised rows to interval, for Brier loss, whose
histogram is the widest there is, and for 0/1 loss. Best of several, as the machine's speed
wanders; the calibration loop beside it says how fast the machine was.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np

from gateway.core.evidence import Evidence
from gateway.core.metrics import by_name
from gateway.core.observations import Observations, Pairs, gather, observe
from gateway.core.registration import Terms
from gateway.core.verdict import Verdict, judge

ROWS = 1_000_000
BAR_S = 0.1
_TERMS = Terms(endpoint="bench", champion_digest="a", challenger_digest="b")


def figures() -> list[dict[str, object]]:
    """One figure a metric: seconds from a million observed rows to verdict and interval."""
    calibration_s = _best_s(lambda: sum(range(1_000_000)))
    return [_figure(name, calibration_s) for name in ("brier", "zero_one")]


def _figure(metric: str, calibration_s: float) -> dict[str, object]:
    rows = observed(metric, rows=ROWS)
    evidence = gather(rows)
    gather_s = _best_s(lambda: gather(rows))
    judge_s = _best_s(lambda: judged(evidence))
    return {
        "name": f"a million {metric} observations to a verdict with interval",
        "value": round(gather_s + judge_s, 4),
        "unit": "s",
        "bar": f"<= {BAR_S}",
        "passed": gather_s + judge_s <= BAR_S,
        "n": ROWS,
        "bins": len(evidence.benefit.values),
        "gather_s": round(gather_s, 4),
        "judge_s": round(judge_s, 4),
        "calibration_s": round(calibration_s, 4),
    }


def observed(metric: str, *, rows: int) -> Observations:
    """Labels of which three in ten are 1, and two versions that are nearly as good."""
    random = np.random.default_rng(1)
    label = (random.random(rows) < 0.3).astype(np.float64)
    champion = np.clip(0.3 + random.normal(0.0, 0.2, rows), 0.0, 1.0)
    challenger = np.clip(0.3 + 0.02 * (label - 0.3) + random.normal(0.0, 0.2, rows), 0.0, 1.0)
    if metric == "zero_one":
        champion, challenger = (np.round(p) for p in (champion, challenger))
    none = np.zeros(rows, dtype=bool)
    pairs = Pairs(
        champion_prediction=champion,
        challenger_prediction=challenger,
        champion_failed=none,
        challenger_failed=none,
        label=label,
    )
    return observe(pairs, by_name(metric), missing_labels="worst_case")


def judged(evidence: Evidence) -> Verdict:
    """The verdict with its interval, nothing of it kept from another look."""
    return judge(evidence, _TERMS, level=0.03, opened_at_us=0, clock_at_us=10**12)


def _best_s(timed: Callable[[], object], repeats: int = 5) -> float:
    best = float("inf")
    for _ in range(repeats):
        began = perf_counter()
        timed()
        best = min(best, perf_counter() - began)
    return best


if __name__ == "__main__":
    for figure in figures():
        print(figure)
