"""Is the challenger better? E(margin) ≥ 1/α_j, on the least advantages."""

from __future__ import annotations

from gateway.core.policies.policy import Case, Gate, Policy, wealth_gate
from gateway.core.sequential.mixture import log_wealth


def superiority(case: Case) -> Gate:
    """Passed once the average advantage is shown to be above the margin."""
    benefit, margin = case.evidence.benefit, case.terms.margin
    return wealth_gate(
        "superiority",
        log_wealth(benefit, margin, case.mixture()),
        level=case.level,
        n=benefit.n,
        proven="passed",
        claim=f"the average advantage is above {margin:g}",
    )


POLICY = Policy((superiority,))
