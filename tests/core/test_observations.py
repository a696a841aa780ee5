"""The rules of one row: what failures and missing labels count for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.metrics import all_metrics, by_name
from gateway.core.observations import MissingLabels, Observations, Pairs, gather, observe

NONE = np.nan


def one(
    champion: float,
    challenger: float,
    label: float,
    *,
    metric: str = "zero_one",
    failed: str = "",
    missing_labels: MissingLabels = "worst_case",
) -> Observations:
    pairs = Pairs(
        champion_prediction=np.array([champion]),
        challenger_prediction=np.array([challenger]),
        champion_failed=np.array(["champion" in failed]),
        challenger_failed=np.array(["challenger" in failed]),
        label=np.array([label]),
    )
    return observe(pairs, by_name(metric), missing_labels=missing_labels)


@pytest.mark.parametrize(
    ("champion", "challenger", "label", "failed", "least", "greatest"),
    [
        (0, 1, 1, "", 1, 1),
        (1, 0, 1, "", -1, -1),
        (1, 1, 0, "", 0, 0),
        (1, 1, NONE, "", 0, 0),  # equal predictions need no label
        (0, 1, NONE, "", -1, 1),
        (NONE, 1, 1, "", 0, 0),  # NaN is a failure, flagged or not
        (np.inf, 1, 1, "", 0, 0),
        (0, 1, 1, "champion", 0, 0),
        (0, 1, NONE, "champion", 0, 0),
        (NONE, NONE, 1, "champion challenger", 0, 0),
        (1, NONE, 1, "challenger", -1, -1),
        (0, NONE, 1, "challenger", 0, 0),
        (1, NONE, NONE, "", -1, 0),
        (1, -np.inf, 1, "", -1, -1),
    ],
)
def test_each_kind_of_row_counts_by_the_rules(
    champion: float, challenger: float, label: float, failed: str, least: float, greatest: float
) -> None:
    """0/1 loss: labels, failures of either side and of both, labels that never came."""
    observed = one(champion, challenger, label, failed=failed)
    assert (observed.least[0], observed.greatest[0]) == (least, greatest)
    assert observed.included[0]


def test_an_unlabelled_brier_row_lies_between_its_two_labels() -> None:
    """0.5 against 0.8: −0.39 if the label is 0, +0.21 if it is 1."""
    observed = one(0.5, 0.8, NONE, metric="brier")
    assert observed.least[0] == pytest.approx(0.25 - 0.64)
    assert observed.greatest[0] == pytest.approx(0.25 - 0.04)
    failed = one(0.5, NONE, NONE, metric="brier")
    assert (failed.least[0], failed.greatest[0]) == (-0.75, -0.75)


predictions = st.sampled_from([0.0, 0.25, 0.5, 1.0, NONE, np.inf])


@given(
    champion=predictions,
    challenger=predictions,
    label=st.sampled_from([0.0, 1.0]),
    failed=st.sampled_from(["", "champion", "challenger", "champion challenger"]),
    metric=st.sampled_from(sorted(all_metrics())),
)
def test_the_range_without_a_label_holds_whatever_the_label_is(
    champion: float, challenger: float, label: float, failed: str, metric: str
) -> None:
    """No label could have made the row worse for the challenger than it was counted."""
    blind = one(champion, challenger, NONE, metric=metric, failed=failed)
    known = one(champion, challenger, label, metric=metric, failed=failed)
    assert -1 <= blind.least[0] <= known.least[0] == known.greatest[0] <= blind.greatest[0] <= 1


@given(challenger=predictions, label=st.sampled_from([0.0, 1.0, NONE]))
def test_a_failed_champion_helps_nobody(challenger: float, label: float) -> None:
    """d = 0, whatever the challenger did and whatever the label says."""
    observed = one(0.0, challenger, label, failed="champion")
    assert observed.least[0] == observed.greatest[0] == 0.0


def test_missing_at_random_leaves_unlabelled_rows_out_and_counts_them() -> None:
    """Agreeing rows too: what remains must be the labelled rows, not the labelled and easy."""
    for champion, challenger in ((0, 1), (1, 1)):
        observed = one(champion, challenger, NONE, missing_labels="missing_at_random")
        gathered = gather(observed)
        assert gathered.benefit.n == gathered.harm.n == gathered.counts.entities == 0
        assert (gathered.counts.rows, gathered.counts.left_out) == (1, 1)
    assert gather(one(0, 1, 1, missing_labels="missing_at_random")).benefit.n == 1


def test_every_row_is_counted_by_what_it_was() -> None:
    """Counts of labels, disagreements and failures of a mixed batch."""
    pairs = Pairs(
        champion_prediction=np.array([0.0, 1.0, 1.0, NONE, 1.0, 0.0]),
        challenger_prediction=np.array([0.0, 0.0, NONE, NONE, 1.0, 1.0]),
        champion_failed=np.array([False, False, False, False, True, False]),
        challenger_failed=np.zeros(6, dtype=bool),
        label=np.array([0.0, 1.0, 1.0, 1.0, 1.0, NONE]),
    )
    counts = gather(observe(pairs, by_name("zero_one"), missing_labels="worst_case")).counts
    assert (counts.rows, counts.entities) == (6, 6)
    assert (counts.labelled, counts.unlabelled, counts.left_out) == (5, 1, 0)
    assert (counts.disagreements, counts.champion_failures, counts.challenger_failures) == (2, 2, 2)


def test_each_end_is_rounded_against_its_own_claim() -> None:
    """A mean of a third is floored in both histograms: towards −1 for d, and for −d."""
    pairs = Pairs(
        champion_prediction=np.array([0.0, 1.0, 1.0]),
        challenger_prediction=np.array([1.0, 1.0, 1.0]),
        champion_failed=np.zeros(3, dtype=bool),
        challenger_failed=np.zeros(3, dtype=bool),
        label=np.ones(3),
    )
    observed = observe(pairs, by_name("zero_one"), missing_labels="worst_case")
    gathered = gather(observed, np.zeros(3, dtype=np.int64))
    assert gathered.benefit.to_json() == [[21_845, 1]]
    assert gathered.harm.to_json() == [[-21_846, 1]]


def test_each_histogram_gets_the_end_that_could_hurt() -> None:
    """An unlabelled disagreement is −1 for benefit, and for harm the +1 it may have been."""
    gathered = gather(one(0, 1, NONE))
    assert gathered.benefit.to_json() == [[-65_536, 1]]
    assert gathered.harm.to_json() == [[-65_536, 1]]
