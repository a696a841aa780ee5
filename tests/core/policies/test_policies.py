"""The contract of every policy; a new file in the package is tested here by itself."""

from __future__ import annotations

from math import log
from typing import Any

import msgspec
import pytest

from gateway.core.evidence import Counts, Evidence, no_evidence
from gateway.core.policies import all_policies
from gateway.core.policies.policy import Case, Policy, in_figures
from gateway.core.registration import Bets, Terms
from tests.statistics.walks import boundary, ever, evidence

TERMS = Terms(endpoint="f", champion_digest="a", challenger_digest="b", minimum_effect=0.2)
WEEK_US = 7 * 86_400 * 1_000_000
EACH = pytest.mark.parametrize("policy", all_policies().values(), ids=list(all_policies()))


def case(
    gathered: Evidence, clock_at_us: int | None = WEEK_US, *, level: float = 0.03, **changes: Any
) -> Case:
    terms = msgspec.structs.replace(TERMS, **changes)
    return Case(
        evidence=gathered, terms=terms, level=level, opened_at_us=0, clock_at_us=clock_at_us
    )


def outcome(name: str, asked: Case) -> str:
    return all_policies()[name](asked)[0].outcome


@EACH
def test_without_evidence_nothing_is_decided(policy: Policy) -> None:
    """Neither for nor against, however long it was watched, at a level that asks nothing."""
    for clock_at_us in (None, 0, 1000 * WEEK_US):
        lenient = {"alpha": 1.0, "beta": 1.0, "min_entities": 0, "min_duration_s": 0}
        gates = policy(case(no_evidence(), clock_at_us, level=1.0, **lenient))
        assert [gate.outcome for gate in gates] == ["undecided"] * len(gates)


@EACH
def test_a_gate_names_itself_its_figure_and_its_n(policy: Policy) -> None:
    """The reason is a sentence that can be shown as it is; asking again gives the same."""
    asked = case(evidence(wins=60, losses=40, ties=100))
    for gate in policy(asked):
        assert gate.reason.startswith(f"{gate.name}: ")
        assert gate.n == 200
        assert "200 entities" in gate.reason
        assert gate.figure is not None
    assert policy(asked) == policy(asked)


@EACH
def test_a_gate_can_be_written_and_read_back(policy: Policy) -> None:
    """As JSON, with nothing lost."""
    (gate,) = policy(case(evidence(wins=60, losses=40)))
    assert msgspec.json.decode(msgspec.json.encode(gate), type=type(gate)) == gate


def test_policies_combine_with_and() -> None:
    """a & b asks for the gates of both, in order."""
    policies = all_policies()
    both = policies["harm"] & policies["superiority"]
    assert [gate.name for gate in both(case(no_evidence()))] == ["harm", "superiority"]


@pytest.mark.parametrize(
    ("name", "theta", "most_often"),
    [("superiority", 0.5, 0.03), ("harm", 0.5, 0.05), ("futility", 0.6, 0.1)],
)
def test_a_wrong_decision_is_as_rare_as_its_level(
    name: str, theta: float, most_often: float
) -> None:
    """Exact, looks after each of 2,000 rows: equal models are not promoted or called harmful,
    and one with just the minimum effect (0.6 − 0.4) is not given up."""

    def decides(successes: int, others: int) -> bool:
        if name == "superiority":
            return outcome(name, case(evidence(successes, others))) == "passed"
        return outcome(name, case(evidence(others, successes))) == "failed"

    success = theta if name == "superiority" else 1 - theta
    chance = ever(boundary(decides, 2_000), success)
    assert 0.2 * most_often < chance <= most_often


def test_clear_evidence_is_decided() -> None:
    """Better passes superiority, worse fails harm, an effect of zero fails futility."""
    better, worse, equal = evidence(90, 10), evidence(10, 90), evidence(500, 500)
    assert outcome("superiority", case(better)) == "passed"
    assert outcome("superiority", case(worse)) == "undecided"
    assert outcome("harm", case(worse)) == "failed"
    assert outcome("harm", case(better)) == "undecided"
    assert outcome("futility", case(equal)) == "failed"
    assert outcome("futility", case(better)) == "undecided"


def test_a_margin_must_be_beaten() -> None:
    """An advantage of 0.2 is superior to 0 and not to 0.3."""
    gathered = evidence(600, 400)
    assert outcome("superiority", case(gathered)) == "passed"
    assert outcome("superiority", case(gathered, margin=0.3)) == "undecided"


def test_a_matched_bet_is_used_where_the_terms_fix_one() -> None:
    """The gate's figure changes with the registered bets, and only with them."""
    gathered = evidence(60, 40)
    fixed = all_policies()["superiority"](case(gathered))[0].figure
    with_matched = case(gathered, bets=Bets(disagreement_rate=1.0))
    assert all_policies()["superiority"](with_matched)[0].figure != fixed


def test_without_a_minimum_effect_futility_is_never_asked() -> None:
    """And says so."""
    gate = all_policies()["futility"](case(evidence(500, 500), minimum_effect=None))[0]
    assert gate.outcome == "undecided"
    assert gate.figure is None
    assert "no minimum effect" in gate.reason


@pytest.mark.parametrize(
    ("clock_at_us", "expected"),
    [(None, "undecided"), (-5, "undecided"), (WEEK_US - 1, "undecided"), (WEEK_US, "passed")],
)
def test_a_whole_cycle_must_have_passed(clock_at_us: int | None, expected: str) -> None:
    """Of the endpoint's clock, to the microsecond."""
    assert outcome("min_duration", case(evidence(50, 50), clock_at_us)) == expected


@pytest.mark.parametrize(("wins", "expected"), [(29, "undecided"), (30, "passed")])
def test_enough_entities_must_have_spoken(wins: int, expected: str) -> None:
    """30 by default."""
    assert outcome("min_entities", case(evidence(wins, 0))) == expected


@pytest.mark.parametrize("name", ["superiority", "harm", "futility"])
def test_nothing_compared_is_said_in_words(name: str) -> None:
    """Before the first observation there is no E to show."""
    (gate,) = all_policies()[name](case(no_evidence()))
    assert gate.figure is None
    assert gate.reason.startswith(f"{name}: nothing has been compared yet, and E must reach ")
    assert "E =" not in gate.reason


@pytest.mark.parametrize("lost", [Counts(expired=1), Counts(unrecorded=1)])
def test_lost_rows_block(lost: Counts) -> None:
    """One row that could not be judged is enough."""
    gathered = msgspec.structs.replace(evidence(50, 50), counts=lost)
    assert outcome("whole", case(gathered)) == "undecided"
    assert outcome("whole", case(evidence(50, 50))) == "passed"


@pytest.mark.parametrize(
    ("log_e", "shown"), [(log(20), "20"), (0.0, "1"), (2302.585, "1e+1000"), (-2302.585, "1e-1000")]
)
def test_evidence_is_shown_beyond_what_a_float_holds(log_e: float, shown: str) -> None:
    """No overflow, no infinity."""
    assert in_figures(log_e) == shown
