"""Has it been watched for a whole cycle of the endpoint's clock?

Time that passes without an entity is not watching: with n = 0 the gate stays undecided.
"""

from __future__ import annotations

from gateway.core.policies.policy import Case, Gate, Outcome, Policy


def min_duration(case: Case) -> Gate:
    """Passed once the endpoint's clock is min_duration_s past the registration."""
    least_s = case.terms.min_duration_s
    n = case.evidence.benefit.n
    if case.clock_at_us is None:
        return _gate("undecided", None, least_s, n, "the endpoint's clock has not started")
    watched_s = max(0.0, (case.clock_at_us - case.opened_at_us) / 1e6)
    outcome: Outcome = "passed" if n and watched_s >= least_s else "undecided"
    why = f"watched {_shown(watched_s)} of {_shown(least_s)}"
    return _gate(outcome, watched_s, least_s, n, why)


def _shown(duration_s: float) -> str:
    for unit, unit_s in (("days", 86_400), ("hours", 3_600)):
        if duration_s >= unit_s:
            return f"{duration_s / unit_s:.3g} {unit}"
    return f"{duration_s:.0f} s"


def _gate(outcome: Outcome, figure: float | None, threshold: int, n: int, why: str) -> Gate:
    return Gate(
        name="min_duration",
        outcome=outcome,
        figure=figure,
        threshold=float(threshold),
        unit="s",
        n=n,
        reason=f"min_duration: {why}, with {n} entities",
    )


POLICY = Policy((min_duration,))
