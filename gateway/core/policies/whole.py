"""Is the traffic whole? Rows that were lost before they could be judged block a promotion.

Counted are rows, from the journals: those that retention let go before the challenger saw them,
and those that workers accepted since the registration and that no journal holds, whatever
endpoint they were of. Lost labels are not counted here: a row without one is judged as the
worst that could be.
"""

from __future__ import annotations

from gateway.core.policies.policy import Case, Gate, Policy


def whole(case: Case) -> Gate:
    """Passed when there is evidence and no row expired or went unrecorded."""
    counts, n = case.evidence.counts, case.evidence.benefit.n
    lost = counts.expired + counts.unrecorded
    return Gate(
        name="whole",
        outcome="passed" if n and not lost else "undecided",
        figure=float(lost),
        threshold=0.0,
        unit="rows",
        n=n,
        reason=f"whole: {counts.expired} rows expired and {counts.unrecorded} were not recorded, "
        f"with {n} entities; none may be lost",
    )


POLICY = Policy((whole,))
