"""The verdict: what the gates say together, now.

Rules: a function of the counts at this moment; nothing is latched. The most severe kind
that the gates speak for wins. Missing evidence only ever means WAIT.
"""

from __future__ import annotations

from math import log
from typing import Literal

import msgspec

from gateway.core.evidence import Evidence
from gateway.core.policies import futility, harm, min_duration, min_entities, superiority, whole
from gateway.core.policies.policy import Case, Gate
from gateway.core.registration import Terms
from gateway.core.sequential.mixture import lower_bound

#: By severity. ROLL BACK is for a champion, after its promotion; `judge` is for challengers.
Kind = Literal["ROLL BACK", "REJECT", "PROMOTE", "INCONCLUSIVE", "WAIT"]

#: Whose gates must all pass before a challenger is promoted (intersection–union: each at
#: its own level, no correction).
PROMOTION = superiority.POLICY & min_duration.POLICY & min_entities.POLICY & whole.POLICY
#: Whose failed gates mean REJECT, and INCONCLUSIVE.
HARM, FUTILITY = harm.POLICY, futility.POLICY


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a challenger, with everything needed to check it.

    `estimate` and `estimate_greatest` are the average advantage if every unlabelled row
    went against the challenger, and for it; None without observations. `lower` holds at
    `level` and agrees with superiority, `upper` at `upper_level` and agrees with harm.
    """

    kind: Kind
    gates: tuple[Gate, ...]
    reasons: tuple[str, ...]
    estimate: float | None
    estimate_greatest: float | None
    lower: float
    upper: float
    n: int
    level: float
    upper_level: float
    assumptions: tuple[str, ...]


def judge(
    evidence: Evidence,
    terms: Terms,
    *,
    level: float,
    opened_at_us: int,
    clock_at_us: int | None,
) -> Verdict:
    """The verdict on the evidence gathered so far. Times are the endpoint's clock, in µs."""
    case = Case(
        evidence=evidence,
        terms=terms,
        level=level,
        opened_at_us=opened_at_us,
        clock_at_us=clock_at_us,
    )
    harmed, wanted, given_up = HARM(case), PROMOTION(case), FUTILITY(case)
    gates = (*harmed, *wanted, *given_up)
    least, greatest = evidence.benefit.mean(), evidence.harm.mean()
    lower, upper = _interval(case)
    return Verdict(
        kind=_kind(harmed, wanted, given_up),
        gates=gates,
        reasons=tuple(gate.reason for gate in gates),
        estimate=least,
        estimate_greatest=None if greatest is None else -greatest,
        lower=lower,
        upper=upper,
        n=evidence.benefit.n,
        level=level,
        upper_level=terms.alpha,
        assumptions=_assumptions(case),
    )


def _kind(harmed: tuple[Gate, ...], wanted: tuple[Gate, ...], given_up: tuple[Gate, ...]) -> Kind:
    if any(gate.outcome == "failed" for gate in harmed):
        return "REJECT"
    if all(gate.outcome == "passed" for gate in wanted):
        return "PROMOTE"
    if any(gate.outcome == "failed" for gate in given_up):
        return "INCONCLUSIVE"
    return "WAIT"


def _interval(case: Case) -> tuple[float, float]:
    """Each end is the one its own decision was made at, so they cannot disagree."""
    mixture, terms = case.mixture(), case.terms
    lower = lower_bound(case.evidence.benefit, -log(case.level), mixture, decided_at=terms.margin)
    upper = -lower_bound(case.evidence.harm, -log(terms.alpha), mixture, decided_at=0.0)
    return lower, upper


def _assumptions(case: Case) -> tuple[str, ...]:
    counts = case.evidence.counts
    if case.terms.missing_labels == "missing_at_random":
        return (f"labels are missing at random: {counts.left_out} unlabelled rows are left out",)
    return ()
