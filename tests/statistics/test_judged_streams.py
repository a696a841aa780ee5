"""Bar 3: streams of equally good, disagreeing models through the judge itself.

A look after every label. With margin 0 an agreeing row leaves E(0) as it is, so the verdict
changes only at a disagreement, and depends only on wins and losses so far: the judge is
asked once for each pair of numbers on its boundary, and every stream is read against that.
`test_the_boundary_says_what_the_judge_says` looks after every single label to show it.
"""

from __future__ import annotations

from functools import cache
from math import sqrt

import numpy as np

from gateway.core.arrays import Ints
from gateway.core.evidence import Evidence, no_evidence
from gateway.core.metrics import by_name
from gateway.core.observations import Pairs, gather, observe
from gateway.core.registration import Terms, level, validated
from gateway.core.verdict import judge
from tests.statistics.walks import boundary, evidence

STREAMS, LABELS, DISAGREEMENT = 10_000, 20_000, 0.1
MOST = 2_300  # disagreements; ten standard deviations of a stream are 424
TERMS = validated(
    Terms(
        endpoint="flights",
        champion_digest="a",
        challenger_digest="b",
        minimum_effect=None,
        alpha=0.05,
        error_control="each",
        min_duration_s=0,
        min_entities=1,
    )
)
LEVEL = level(alpha=0.05, number=7, promotions=0, error_control="each")


def kind(gathered: Evidence) -> str:
    """What the judge says of this evidence."""
    return judge(gathered, TERMS, level=LEVEL, opened_at_us=0, clock_at_us=0).kind


@cache
def judged_boundary() -> Ints:
    """The least wins with which the judge says PROMOTE."""
    return boundary(lambda wins, losses: kind(evidence(wins, losses)) == "PROMOTE", MOST)


def share_promoted(least: Ints, seed: int) -> float:
    """The share of seeded A/A streams that are promoted at any look."""
    random = np.random.default_rng(seed)
    ends = random.binomial(LABELS, DISAGREEMENT, STREAMS)
    assert ends.max() <= MOST
    promoted = 0
    for end in ends:
        wins = np.cumsum(random.integers(0, 2, end, dtype=np.int8), dtype=np.int16)
        promoted += bool((wins >= least[1 : end + 1]).any())
    return promoted / STREAMS


def test_equal_models_are_promoted_as_rarely_as_promised() -> None:
    """10,000 streams of 20,000 labels: between 2.1% and 3.5% ever see PROMOTE at α = 5%."""
    assert 0.021 <= share_promoted(judged_boundary(), seed=20_260_101) <= 0.035


def test_the_same_harness_condemns_a_naive_z_test() -> None:
    """The control: a z-test looked at after every label promotes at least 35%."""
    naive = boundary(lambda w, s: w + s >= 10 and w - s >= 1.6449 * sqrt(w + s), MOST)
    assert share_promoted(naive, seed=20_260_101) >= 0.35


def test_the_boundary_says_what_the_judge_says() -> None:
    """Row by row through pairs, evidence and judge, every look agrees with the boundary."""
    for seed, theta in ((1, 0.5), (2, 0.8)):
        looks = [
            promoted == (wins >= judged_boundary()[n]) for promoted, wins, n in stream(seed, theta)
        ]
        assert all(looks)
    assert any(promoted for promoted, _, _ in stream(2, 0.8))


def stream(seed: int, theta: float, rows: int = 400) -> list[tuple[bool, int, int]]:
    """(PROMOTE now, wins, disagreements) after each label of one stream."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, rows).astype(float)
    differ, wins = random.random(rows) < 0.3, random.random(rows) < theta
    champion = np.where(differ & wins, 1 - label, label)
    challenger = np.where(differ & ~wins, 1 - label, label)
    gathered, seen = no_evidence(), []
    for row in range(rows):
        one = slice(row, row + 1)
        no_failure = np.zeros(1, dtype=bool)
        pairs = Pairs(
            champion_prediction=champion[one],
            challenger_prediction=challenger[one],
            champion_failed=no_failure,
            challenger_failed=no_failure,
            label=label[one],
        )
        observed = observe(pairs, by_name("zero_one"), missing_labels="worst_case")
        gathered = gathered.merge(gather(observed))
        won = int((differ & wins)[: row + 1].sum())
        seen.append((kind(gathered) == "PROMOTE", won, int(differ[: row + 1].sum())))
    return seen
