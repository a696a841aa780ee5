"""What a policy is: a question to one case, answered by gates.

Rules: a policy is pure and latches nothing; asked again of the same case it says the same.
A gate says `passed` only when its own null is rejected. Without evidence every gate is
`undecided`, and `undecided` only ever leads to WAIT. `failed` speaks against the challenger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log
from typing import Literal

import msgspec

from gateway.core.evidence import Evidence
from gateway.core.registration import Terms
from gateway.core.sequential.mixture import FIXED, Mixture, matched

Outcome = Literal["passed", "failed", "undecided"]
Unit = Literal["ln E", "s", "entities", "rows"]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a policy may look at. The clock is the endpoint's, None before any time."""

    evidence: Evidence
    terms: Terms
    level: float  # α_j
    opened_at_us: int
    clock_at_us: int | None

    def mixture(self) -> Mixture:
        """The bets that the terms fixed."""
        effect, rate = self.terms.minimum_effect, self.terms.bets.disagreement_rate
        return FIXED if effect is None or rate is None else matched(effect, rate)


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One answer: the figure, what it is held against, and the n behind it."""

    name: str
    outcome: Outcome
    figure: float | None  # None: there is none yet
    threshold: float
    unit: Unit
    n: int
    reason: str


@dataclass(frozen=True, slots=True)
class Policy:
    """Functions from a case to a gate; `a & b` asks for the gates of both."""

    assess: tuple[Callable[[Case], Gate], ...]

    def __call__(self, case: Case) -> tuple[Gate, ...]:
        """One gate for each function, in order."""
        return tuple(assess(case) for assess in self.assess)

    def __and__(self, other: Policy) -> Policy:
        """All gates of both."""
        return Policy(self.assess + other.assess)


def wealth_gate(
    name: str, log_e: float, *, level: float, n: int, proven: Outcome, claim: str
) -> Gate:
    """The gate of an e-process: `proven` once E ≥ 1/level, undecided before."""
    threshold = -log(level)
    is_proven = n > 0 and log_e >= threshold
    return Gate(
        name=name,
        outcome=proven if is_proven else "undecided",
        figure=log_e if n else None,
        threshold=threshold,
        unit="ln E",
        n=n,
        reason=f"{name}: {_wealth(log_e, threshold, n)} that {claim}",
    )


def _wealth(log_e: float, threshold: float, n: int) -> str:
    needed = in_figures(threshold)
    if n == 0:
        return f"nothing has been compared yet, and E must reach {needed}; not shown yet"
    verb, standing = ("≥", "shown") if log_e >= threshold else ("<", "not shown yet")
    return f"E = {in_figures(log_e)} {verb} {needed} from {n} entities; {standing}"


def in_figures(log_e: float) -> str:
    """exp(log_e) to three figures, also where a float could not hold it."""
    if abs(log_e) < 700:
        return f"{exp(log_e):.3g}"
    return f"1e{log_e / log(10):+.0f}"
