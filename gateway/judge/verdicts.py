"""From the state of a registration's evidence to its verdict: the same for whoever asks.

The judge asks when it writes a checkpoint, and whoever acts on a checkpoint asks again, so
that a verdict in the store counts only as far as its evidence says it.
"""

from __future__ import annotations

from gateway.core.verdict import Verdict, judge
from gateway.judge.evidence_state import EvidenceState
from gateway.ports import Registration


def verdict_of(state: EvidenceState, registration: Registration, *, cut_us: int) -> Verdict:
    """What the gates say of the evidence when the endpoint's clock is at `cut_us`.

    Where the endpoint's clock is the clients', the time of the registration is not on it: the
    registration counts as opened at the first row judged.
    """
    by_client = registration.terms.event_time == "client"
    opened_at_us = state.first_event_us if by_client else registration.opened_at_us
    return judge(
        state.evidence,
        registration.terms,
        level=registration.level,
        opened_at_us=opened_at_us or 0,
        clock_at_us=None if opened_at_us is None else cut_us,
    )
