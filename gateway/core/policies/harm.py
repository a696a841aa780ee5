"""Is the challenger harmful? The same bets on −d, at level α, on the greatest advantages."""

from __future__ import annotations

from gateway.core.policies.policy import Case, Gate, Policy, wealth_gate
from gateway.core.sequential.mixture import log_wealth


def harm(case: Case) -> Gate:
    """Failed once the average advantage is shown to be below 0."""
    harmed = case.evidence.harm
    return wealth_gate(
        "harm",
        log_wealth(harmed, 0.0, case.mixture()),
        level=case.terms.alpha,
        n=harmed.n,
        proven="failed",
        claim="the average advantage is below 0",
    )


POLICY = Policy((harm,))
