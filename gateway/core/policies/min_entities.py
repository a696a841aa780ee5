"""Are there enough entities to speak of an average?"""

from __future__ import annotations

from gateway.core.policies.policy import Case, Gate, Policy


def min_entities(case: Case) -> Gate:
    """Passed once there are min_entities observations, and at least one."""
    n, least = case.evidence.benefit.n, max(1, case.terms.min_entities)
    is_enough = n >= least
    return Gate(
        name="min_entities",
        outcome="passed" if is_enough else "undecided",
        figure=float(n),
        threshold=float(least),
        unit="entities",
        n=n,
        reason=f"min_entities: {n} entities {'≥' if is_enough else '<'} {least}",
    )


POLICY = Policy((min_entities,))
