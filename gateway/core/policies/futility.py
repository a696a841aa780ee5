"""Will it never be worth it? Bets on MDE − d against "the advantage is at least the MDE".

E(−MDE) of the harm histogram ≥ 1/β, so a challenger that is as good as the minimum effect
is given up with chance at most β.
"""

from __future__ import annotations

from math import log

from gateway.core.policies.policy import Case, Gate, Policy, wealth_gate
from gateway.core.sequential.mixture import log_wealth


def futility(case: Case) -> Gate:
    """Failed once the average advantage is shown to be below the minimum effect."""
    harmed, effect = case.evidence.harm, case.terms.minimum_effect
    if effect is None:
        return _never_asked(case)
    return wealth_gate(
        "futility",
        log_wealth(harmed, -effect, case.mixture()),
        level=case.terms.beta,
        n=harmed.n,
        proven="failed",
        claim=f"the average advantage is below the minimum effect {effect:g}",
    )


def _never_asked(case: Case) -> Gate:
    return Gate(
        name="futility",
        outcome="undecided",
        figure=None,
        threshold=-log(case.terms.beta),
        unit="ln E",
        n=case.evidence.harm.n,
        reason="futility: not asked, for the registration names no minimum effect",
    )


POLICY = Policy((futility,))
