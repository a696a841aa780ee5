"""Bar 6, the pure parts: no order, batch, split or repetition can change evidence."""

from __future__ import annotations

from functools import reduce
from typing import get_args

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.arrays import Ints
from gateway.core.entities import windows
from gateway.core.evidence import Evidence, no_evidence, to_json
from gateway.core.labels import Label, final
from gateway.core.metrics import by_name
from gateway.core.observations import Pairs, gather, observe
from gateway.core.registration import EventTime
from gateway.core.sequential.mixture import log_wealth

seeds = st.integers(0, 2**32 - 1)


def rows(random: np.random.Generator, n: int) -> tuple[Pairs, Ints]:
    """n rows of any kind under Brier loss, and the entities that they belong to."""
    pairs = Pairs(
        champion_prediction=np.where(random.random(n) < 0.05, np.nan, random.random(n)),
        challenger_prediction=random.random(n),
        champion_failed=random.random(n) < 0.05,
        challenger_failed=random.random(n) < 0.05,
        label=random.choice(np.array([0.0, 1.0, np.nan]), n),
    )
    return pairs, random.integers(0, max(1, n // 3), n)


def taken(pairs: Pairs, which: Ints) -> Pairs:
    """Those rows, in that order."""
    columns = {name: getattr(pairs, name)[which] for name in pairs.__struct_fields__}
    return Pairs(**columns)


def evidence_of(pairs: Pairs, codes: Ints) -> Evidence:
    """The evidence of these rows by entity."""
    return gather(observe(pairs, by_name("brier"), missing_labels="worst_case"), codes)


@settings(max_examples=50)
@given(seed=seeds, n=st.integers(0, 200), parts=st.integers(1, 6))
def test_evidence_knows_no_order_and_no_batches(seed: int, n: int, parts: int) -> None:
    """Rows shuffled, entities dealt over journals, parts merged in any order: the same bytes."""
    random = np.random.default_rng(seed)
    pairs, codes = rows(random, n)
    whole = evidence_of(pairs, codes)
    shuffled = random.permutation(n)
    journal = random.integers(0, parts, n + 1)[codes]  # an entity lies in one part
    gathered = [
        evidence_of(taken(pairs, which), codes[which])
        for which in (shuffled[journal[shuffled] == part] for part in random.permutation(parts))
    ]
    merged = reduce(Evidence.merge, gathered, no_evidence())
    assert merged == whole
    assert to_json(merged) == to_json(whole)
    assert log_wealth(merged.benefit, 0.01) == log_wealth(whole.benefit, 0.01)


sent_labels = st.builds(
    Label,
    label_id=st.sampled_from("abcdef"),
    value=st.just(1.0),
    observed_at_us=st.integers(0, 5),
    received_at_us=st.integers(0, 5),
)


@given(sent=st.lists(sent_labels), event_time=st.sampled_from(get_args(EventTime)), data=st.data())
def test_the_final_label_knows_no_order_and_no_repetition(
    sent: list[Label], event_time: EventTime, data: st.DataObject
) -> None:
    """However often and in whichever order labels arrive, the same one is final."""
    repeated = data.draw(st.lists(st.sampled_from(sent))) if sent else []
    again = data.draw(st.permutations(sent + repeated))
    judged = [
        final(labels, predicted_at_us=1, horizon_us=3, event_time=event_time)
        for labels in (sent, again)
    ]
    assert judged[0] == judged[1]


@given(
    sent=st.lists(sent_labels),
    late=st.lists(sent_labels),
    event_time=st.sampled_from(get_args(EventTime)),
)
def test_a_label_past_the_horizon_changes_nothing(
    sent: list[Label], late: list[Label], event_time: EventTime
) -> None:
    """What comes after the horizon is never judged, whenever the judge runs."""
    later = [msgspec.structs.replace(label, observed_at_us=10, received_at_us=10) for label in late]
    judged = [
        final(labels, predicted_at_us=1, horizon_us=8, event_time=event_time)
        for labels in (sent, later + sent, sent + later)
    ]
    assert judged[0] == judged[1] == judged[2]


@given(seed=seeds, n=st.integers(0, 60))
def test_windows_know_no_order(seed: int, n: int) -> None:
    """Which rows are inside and due follows their times, not their order."""
    random = np.random.default_rng(seed)
    codes, at_us = random.integers(0, 5, n), random.integers(0, 100, n)
    shuffled = random.permutation(n)
    there = windows(codes, at_us, window_us=30, horizon_us=10, cut_us=90)
    again = windows(codes[shuffled], at_us[shuffled], window_us=30, horizon_us=10, cut_us=90)
    assert np.array_equal(there.inside[shuffled], again.inside)
    assert np.array_equal(there.due[shuffled], again.due)
