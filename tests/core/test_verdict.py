"""The verdict on a case: precedence, fail-closed, and what it carries."""

from __future__ import annotations

from math import log
from typing import Any

import msgspec
import pytest

from gateway.core.evidence import Counts, Evidence, no_evidence
from gateway.core.registration import Terms
from gateway.core.sequential.mixture import log_wealth
from gateway.core.verdict import Verdict, judge
from tests.statistics.walks import evidence

TERMS = Terms(endpoint="f", champion_digest="a", challenger_digest="b", minimum_effect=0.2)
WEEK_US = 7 * 86_400 * 1_000_000


def judged(
    gathered: Evidence,
    clock_at_us: int | None = WEEK_US,
    *,
    level: float = 0.03,
    **changes: Any,
) -> Verdict:
    terms = msgspec.structs.replace(TERMS, **changes)
    return judge(gathered, terms, level=level, opened_at_us=0, clock_at_us=clock_at_us)


@pytest.mark.parametrize(
    ("gathered", "kind"),
    [
        (no_evidence(), "WAIT"),
        (evidence(20, 15), "WAIT"),
        (evidence(90, 10), "PROMOTE"),
        (evidence(10, 90), "REJECT"),
        (evidence(500, 500), "INCONCLUSIVE"),
    ],
)
def test_each_kind_has_its_evidence(gathered: Evidence, kind: str) -> None:
    """None, too little, better, worse, and never worth it."""
    assert judged(gathered).kind == kind


def test_harm_comes_before_everything() -> None:
    """Worse is also futile, and is rejected."""
    verdict = judged(evidence(10, 900))
    assert [g.outcome for g in verdict.gates if g.name in ("harm", "futility")] == ["failed"] * 2
    assert verdict.kind == "REJECT"


def test_better_comes_before_not_better_enough() -> None:
    """Shown above the margin and below the minimum effect: promoted."""
    verdict = judged(evidence(6_000, 5_000))
    assert {g.name: g.outcome for g in verdict.gates}["futility"] == "failed"
    assert verdict.kind == "PROMOTE"


@pytest.mark.parametrize(
    "changes",
    [
        {"clock_at_us": None},
        {"clock_at_us": WEEK_US - 1},
        {"min_entities": 101},
        {"margin": 0.79},
    ],
)
def test_one_open_gate_is_enough_to_wait(changes: dict[str, Any]) -> None:
    """Better beyond doubt, but too early, too few, or not by the margin."""
    assert judged(evidence(90, 10), **changes).kind == "WAIT"


@pytest.mark.parametrize("lost", [Counts(expired=3), Counts(unrecorded=1)])
def test_lost_rows_mean_wait(lost: Counts) -> None:
    """A challenger that did not see all of its traffic is not promoted."""
    assert judged(msgspec.structs.replace(evidence(90, 10), counts=lost)).kind == "WAIT"


def test_nothing_is_latched() -> None:
    """When the advantage melts away, so does the verdict."""
    assert judged(evidence(60, 20)).kind == "PROMOTE"
    assert judged(evidence(60, 20).merge(evidence(0, 30))).kind == "WAIT"


def test_every_gate_gives_its_reason() -> None:
    """All gates are asked, each with its figure, its threshold and its n."""
    verdict = judged(evidence(90, 10))
    names = {gate.name for gate in verdict.gates}
    assert names == {"harm", "superiority", "min_duration", "min_entities", "whole", "futility"}
    assert verdict.reasons == tuple(gate.reason for gate in verdict.gates)
    assert "superiority: E = 1.75e+14 ≥ 33.3 from 100 entities" in verdict.reasons[1]


def test_each_end_of_the_interval_agrees_with_its_decision() -> None:
    """Lower with superiority at its level, upper with harm at alpha, mean in between."""
    for wins in range(0, 101, 2):
        gathered = evidence(wins, 100 - wins)
        verdict = judged(gathered, level=0.0001, margin=0.1)
        assert verdict.estimate is not None
        assert verdict.lower <= verdict.estimate <= verdict.upper
        superior = log_wealth(gathered.benefit, 0.1) >= -log(0.0001)
        assert (verdict.lower >= 0.1) == superior
        assert (verdict.upper <= 0.0) == (verdict.kind == "REJECT")


def test_no_evidence_has_no_estimate() -> None:
    """None and the whole range, never 0."""
    verdict = judged(no_evidence())
    assert (verdict.estimate, verdict.estimate_greatest, verdict.n) == (None, None, 0)
    assert (verdict.lower, verdict.upper) == (-1.0, 1.0)


def test_unlabelled_rows_widen_the_estimate() -> None:
    """Least and greatest average, from the two histograms."""
    gathered = Evidence(benefit=evidence(40, 60).benefit, harm=evidence(50, 50).harm)
    verdict = judged(gathered)
    assert (verdict.estimate, verdict.estimate_greatest) == (-0.2, 0.0)


def test_an_assumption_is_printed() -> None:
    """With the number of rows that it left out."""
    gathered = msgspec.structs.replace(evidence(90, 10), counts=Counts(left_out=7))
    assert judged(gathered).assumptions == ()
    assumed = judged(gathered, missing_labels="missing_at_random").assumptions
    assert len(assumed) == 1
    assert "7 unlabelled rows" in assumed[0]


def test_a_verdict_can_be_written_and_read_back() -> None:
    """As JSON, also with evidence far beyond what a float could hold."""
    for gathered in (no_evidence(), evidence(90, 10), evidence(100_000, 10)):
        verdict = judged(gathered)
        assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict
