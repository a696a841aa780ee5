"""The judge over a real archive, against a row-by-row recomputation."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.archive.writer import ArchiveWriter
from gateway.core.evidence import Histogram
from gateway.core.registration import Terms
from gateway.core.routes import EntityRule
from gateway.judge.evaluation import says_the_same
from gateway.judge.evidence_state import EvidenceState, state_of
from tests.archive.records import prediction, shadow, tensor
from tests.archive.scenes import OPENED, S, registration, terms
from tests.judge.traffic import (
    Frame,
    Label,
    Pass,
    Row,
    answer_frames,
    judge,
    judged,
    label_frame,
    naive,
    write,
)

MATURITY_S, WINDOW_S, END_S = 10, 5, 100


def _terms(kind: str, **changed: Any) -> Terms:
    entity = EntityRule() if kind == "row" else EntityRule("parameter", WINDOW_S)
    return terms(maturity_s=MATURITY_S, entity=entity, **changed)


def _frames(rows: list[Row], fixed: Terms, *, writers: int = 1) -> list[Frame]:
    """Every row with its labels at once, spread over journals."""
    frames: list[Frame] = []
    ends = dict.fromkeys(range(writers), 0)
    for row in rows:
        writer = row.name % writers
        ends[writer] += 10
        frames += answer_frames(row, fixed, writer=f"w{writer}", end=ends[writer])
        for one in row.labels:
            ends[writer] += 10
            frames.append(label_frame(row, one, writer=f"w{writer}", end=ends[writer]))
    return frames


def _ends(frames: list[Frame]) -> dict[str, int]:
    ends: dict[str, int] = {}
    for frame in frames:
        ends[frame.writer] = max(frame.end, ends.get(frame.writer, 0))
    return ends


def _dict(histogram: Histogram) -> dict[int, int]:
    return dict(histogram.to_json())


def _agrees(state: EvidenceState, rows: list[Row], frames: list[Frame], passes: list[Pass],
            fixed: Terms) -> None:  # fmt: skip
    expected = naive(rows, frames, passes, fixed)
    assert _dict(state.evidence.benefit) == expected.benefit
    assert _dict(state.evidence.harm) == expected.harm
    assert state.accounting.late == expected.late
    assert state.evidence.counts.after_window == expected.after_window


def _one(tmp_path: Path, row: Row, **changed: Any) -> EvidenceState:
    """The state after one row has matured."""
    fixed = _terms("row", **changed)
    frames = _frames([row], fixed)
    write(tmp_path, frames)
    return judged(tmp_path, registration(fixed), [Pass(END_S, _ends(frames))])


ONE = 65_536
RIGHT, WRONG = 0.9, 0.1  # predictions where the label is 1
TRUE = (Label(1.0, 5, 5),)


@pytest.mark.parametrize(
    ("row", "benefit", "harm"),
    [
        (Row(1, 0, WRONG, RIGHT, labels=TRUE), ONE, -ONE),
        (Row(1, 0, RIGHT, WRONG, labels=TRUE), -ONE, ONE),
        (Row(1, 0, RIGHT, WRONG, labels=TRUE, live=True), -ONE, ONE),
        (Row(1, 0, RIGHT, RIGHT), 0, 0),
        (Row(1, 0, RIGHT, WRONG), -ONE, -ONE),
        (Row(1, 0, RIGHT, WRONG, labels=(Label(1.0, 11, 11),)), -ONE, -ONE),
        (Row(1, 0, RIGHT, RIGHT, challenger_status="failed", labels=TRUE), -ONE, ONE),
        (Row(1, 0, WRONG, RIGHT, challenger_status="timed_out", labels=TRUE), 0, 0),
        (Row(1, 0, RIGHT, RIGHT, challenger_status="nonfinite"), -ONE, 0),
        (Row(1, 0, RIGHT, RIGHT, champion_status="failed", labels=TRUE), 0, 0),
        (Row(1, 0, RIGHT, RIGHT, "failed", "failed", labels=TRUE), 0, 0),
        (Row(1, 0, RIGHT, RIGHT, "failed", "refused", labels=TRUE), 0, 0),
        (Row(1, 0, WRONG, RIGHT, challenger_status="refused", labels=TRUE), 0, -ONE),
        (Row(1, 0, RIGHT, RIGHT, challenger_status="refused", labels=TRUE), -ONE, 0),
        (Row(1, 0, RIGHT, RIGHT, challenger_status="expired"), -ONE, -ONE),
        (Row(1, 0, RIGHT, RIGHT, champion_status="refused", labels=TRUE, live=True), -ONE, -ONE),
    ],
)  # fmt: skip
def test_one_row_counts_as_the_rules_say(tmp_path: Path, row: Row, benefit: int, harm: int) -> None:
    """Wins, losses, failures and missing evidence; what is unknown helps nobody."""
    evidence = _one(tmp_path, row).evidence
    assert (_dict(evidence.benefit), _dict(evidence.harm)) == ({benefit: 1}, {harm: 1})


def test_a_last_label_in_time_is_the_final_one(tmp_path: Path) -> None:
    """A correction within the horizon counts, one after it does not; sent again is no later."""
    first, correction, too_late = Label(1.0, 3, 3), Label(0.0, 3, 4), Label(1.0, 20, 20)
    row = Row(1, 0, WRONG, RIGHT, labels=(first, correction, Label(1.0, 3, 6), too_late))
    assert _dict(_one(tmp_path, row).evidence.benefit) == {-ONE: 1}


@pytest.mark.parametrize(("lost_at_s", "rows"), [(99, 0), (101, 7)])
def test_rows_in_no_journal_block_the_registrations_they_may_be_of(
    tmp_path: Path, lost_at_s: int, rows: int
) -> None:
    """By the counts in the journal, and not by what a worker said of itself before it was
    killed: what was lost since the registration opened is in its verdict, with the figure."""
    row = Row(1, 102, WRONG, RIGHT, labels=(Label(1.0, 103, 103),))
    fixed = _terms("row")
    write(tmp_path, _frames([row], fixed))
    writer = ArchiveWriter(tmp_path)
    writer.note_tally("w0", accepted_rows=7, at_us=lost_at_s * S)
    assert writer.flush()
    opened = registration(fixed, opened_at_us=100 * S)
    checkpoint = judge(tmp_path, opened, None, Pass(200, {"w0": 10**6, "w1": 10**6}))
    assert state_of(checkpoint).evidence.counts.unrecorded == rows
    verdict = msgspec.json.decode(checkpoint.verdict)
    (whole,) = (gate for gate in verdict["gates"] if gate["name"] == "whole")
    assert whole["outcome"] == ("undecided" if rows else "passed")
    assert f"0 rows expired and {rows} were not recorded" in whole["reason"]


def test_a_label_that_is_no_number_is_no_label(tmp_path: Path) -> None:
    """It is counted, and the row stays unlabelled."""
    state = _one(tmp_path, Row(1, 0, WRONG, RIGHT, labels=(Label("late", 3, 3),)))
    assert _dict(state.evidence.benefit) == {-ONE: 1}
    assert state.accounting.unreadable_labels == 1
    assert state.evidence.counts.unlabelled == 1


def test_excluded_rows_are_counted_and_not_judged(tmp_path: Path) -> None:
    """Pinned and overload rows say nothing about the versions."""
    state = _one(tmp_path, Row(1, 0, WRONG, RIGHT, exclusion="pinned", labels=TRUE))
    assert state.evidence.benefit.n == 0
    assert state.evidence.counts.excluded == 1


def test_expired_rows_are_counted_so_that_they_block(tmp_path: Path) -> None:
    """What retention let go is in the counts that the verdict's gate reads."""
    state = _one(tmp_path, Row(1, 0, challenger_status="expired", labels=TRUE))
    assert state.evidence.counts.expired == 1
    assert state.evidence.counts.challenger_failures == 0


def test_a_row_without_a_time_is_counted(tmp_path: Path) -> None:
    """Where the clock is the clients' and one sent none, the row has no place on it."""
    fixed = _terms("row", event_time="client")
    write(tmp_path, [Frame("w0", 10, prediction("p")), Frame("s", 10, shadow("p"))])
    passes = [Pass(END_S, {"w0": 10}), Pass(END_S + 1, {"w0": 10})]
    state = judged(tmp_path, registration(fixed), passes)
    assert (state.evidence.benefit.n, state.accounting.without_time) == (0, 1)


def test_a_request_without_an_entity_is_counted(tmp_path: Path) -> None:
    """It can be no observation, for nobody knows whose it is."""
    fixed = _terms("parameter")
    frames = _frames([Row(1, 0), Row(2, 0, entity="a")], fixed)
    write(tmp_path, frames)
    state = judged(tmp_path, registration(fixed), [Pass(END_S, _ends(frames))])
    assert (state.evidence.benefit.n, state.accounting.without_entity) == (1, 1)


def test_unsampled_rows_are_left_out(tmp_path: Path) -> None:
    """Nobody wanted the challenger's answer, so it is not missing."""
    opened = registration(_terms("row"))
    write(tmp_path, [Frame("w0", 10, prediction("00" * 16, epoch=OPENED))])
    from gateway.archive.tables import ArchiveReader
    from gateway.judge.evaluation import evaluate
    from tests.archive.scenes import rollouts

    with ArchiveReader(tmp_path) as reader:
        checkpoint = evaluate(
            reader, opened, rollouts(opened, 0), None,
            cut_us=END_S * S, covered={"w0": 10}, at_us=0,
        )  # fmt: skip
    state = state_of(checkpoint)
    assert (state.evidence.benefit.n, state.accounting.unsampled) == (0, 1)
    assert checkpoint.cut_us == END_S * S


def test_a_pass_waits_for_answers_that_are_owed(tmp_path: Path) -> None:
    """Shadow lag delays rows, in order of time; it never drops one and never guesses."""
    fixed = _terms("row")
    rows = [Row(n, n, WRONG, RIGHT, labels=(Label(1.0, n, n),)) for n in range(4)]
    frames = _frames(rows, fixed)
    missing = next(f for f in frames if f.writer == "shadow-w0" and f.end == 50)
    owed = [frame for frame in frames if frame is not missing]
    write(tmp_path, owed)
    opened, one = registration(fixed), Pass(END_S, _ends(frames))
    first = judge(tmp_path, opened, None, one)
    assert first.cut_us == (2 + MATURITY_S) * S - 1
    assert (state_of(first).evidence.benefit.n, state_of(first).accounting.pending) == (2, 1)
    write(tmp_path, [missing._replace(writer="shadow-again")])
    second = judge(tmp_path, opened, first, one)
    assert second.cut_us == END_S * S
    assert _dict(state_of(second).evidence.benefit) == {ONE: 4}


def test_a_row_read_too_late_is_never_judged(tmp_path: Path) -> None:
    """The pass that it belonged to is over; judging it later would depend on when it came."""
    fixed = _terms("row")
    frames = _frames([Row(1, 0, labels=TRUE), Row(2, 1, labels=TRUE)], fixed)
    write(tmp_path, frames)
    passes = [
        Pass(END_S, {"w0": 20}),
        Pass(END_S + 1, _ends(frames)),
        Pass(END_S + 2, _ends(frames)),
    ]
    state = judged(tmp_path, registration(fixed), passes)
    assert (state.evidence.benefit.n, state.accounting.late) == (1, 1)


def test_a_late_row_opens_no_window_in_any_later_pass(tmp_path: Path) -> None:
    """It was found late before its entity's turn came; that must be remembered until then."""
    fixed = _terms("parameter")
    rows = [
        Row(1, 0, RIGHT, WRONG, entity="a", labels=TRUE),
        Row(2, 3, WRONG, RIGHT, entity="a", labels=TRUE),
    ]
    frames = _frames(rows, fixed)
    write(tmp_path, frames)
    passes = [Pass(10, {}), Pass(11, {"w0": 40}), Pass(17, {"w0": 40}), Pass(18, {"w0": 40})]
    state = judged(tmp_path, registration(fixed), passes[:3])
    assert (state.evidence.benefit.n, state.accounting.late) == (0, 1)
    state = judged(tmp_path, registration(fixed), passes)
    assert _dict(state.evidence.benefit) == {ONE: 1}
    _agrees(state, rows, frames, passes, fixed)


def test_a_closed_entity_never_counts_again(tmp_path: Path) -> None:
    """Its later rows are after its window, however far back its first row is."""
    fixed = _terms("parameter")
    rows = [Row(n, at_s, WRONG, RIGHT, entity="a", labels=(Label(1.0, at_s, at_s),))
            for n, at_s in enumerate((0, 4, 6, 60))]  # fmt: skip
    frames = _frames(rows, fixed)
    write(tmp_path, frames)
    passes = [Pass(cut_s, _ends(frames)) for cut_s in (20, 30, 75, END_S)]
    state = judged(tmp_path, registration(fixed), passes)
    assert _dict(state.evidence.benefit) == {ONE: 1}
    assert (state.evidence.counts.rows, state.evidence.counts.after_window) == (2, 2)


def test_only_rows_of_the_registration_count(tmp_path: Path) -> None:
    """Earlier traffic, and shadow runs of another registration, prove nothing here."""
    fixed = _terms("row")
    output = [tensor("p", np.array([0.9]))]
    frames = [
        Frame("w0", 10, prediction("a" * 32, epoch=OPENED - 1, outputs=output)),
        Frame("w0", 20, prediction("b" * 32, outputs=output)),
        Frame("s", 10, shadow("a" * 32, outputs=output)),
        Frame("s", 20, shadow("b" * 32, registration=7, outputs=output)),
    ]
    write(tmp_path, frames)
    state = judged(tmp_path, registration(fixed), [Pass(END_S, _ends(frames))])
    assert (state.evidence.benefit.n, state.accounting.pending) == (0, 1)


def test_a_checkpoint_that_adds_nothing_says_the_same(tmp_path: Path) -> None:
    """So that an idle endpoint writes no checkpoints."""
    opened = registration(_terms("row"))
    frames = _frames([Row(1, 0, labels=TRUE), Row(2, 50, labels=TRUE)], opened.terms)
    write(tmp_path, frames)
    first = judge(tmp_path, opened, None, Pass(20, _ends(frames)))
    idle = judge(tmp_path, opened, first, Pass(21, _ends(frames)))
    more = judge(tmp_path, opened, first, Pass(END_S, _ends(frames)))
    assert not says_the_same(None, first)
    assert says_the_same(first, idle)
    assert not says_the_same(first, more)


def test_text_classes_are_compared_as_texts(tmp_path: Path) -> None:
    """A classifier may answer names; the label is a name then."""
    from tests.archive.records import label, labels

    reading = msgspec.structs.replace(terms().prediction, reading="class", output="c")
    fixed = _terms("row", prediction=reading, task="multiclass")

    def named(name: bytes) -> list[Any]:
        return [tensor("c", np.array([name], object))]

    frames = [
        Frame("w0", 10, prediction("p", accepted_at_us=0, outputs=named(b"late"))),
        Frame("s", 10, shadow("p", outputs=named(b"early"))),
        Frame("w0", 20, labels(label("p", "early"), received_at_us=S)),
    ]
    write(tmp_path, frames)
    state = judged(tmp_path, registration(fixed), [Pass(END_S, _ends(frames))])
    assert _dict(state.evidence.benefit) == {ONE: 1}
    assert state.accounting.unreadable_labels == 0


# -- the oracle over drawn traffic -----------------------------------------------------------

_STATUS = st.sampled_from(["ok"] * 6 + ["failed", "nonfinite", "refused", "expired"])
_LABEL = st.builds(
    Label, st.sampled_from([0.0, 1.0, 1.0, "x"]), st.integers(0, 60), st.integers(0, 60)
)
_ROW = st.builds(
    Row,
    name=st.just(0),
    at_s=st.integers(0, 40),
    champion=st.sampled_from([0.1, 0.3, 0.7, 0.9]),
    challenger=st.sampled_from([0.1, 0.3, 0.7, 0.9]),
    champion_status=st.sampled_from(["ok"] * 8 + ["failed", "timed_out"]),
    challenger_status=_STATUS,
    entity=st.sampled_from([None, "a", "b", "c"]),
    labels=st.lists(_LABEL, max_size=3).map(tuple),
    exclusion=st.sampled_from([""] * 8 + ["pinned"]),
    live=st.booleans(),
)
_ROWS = st.lists(_ROW, min_size=1, max_size=25).map(
    lambda rows: [row._replace(name=n) for n, row in enumerate(rows)]
)
_TERMS = st.builds(
    _terms,
    st.sampled_from(["row", "parameter"]),
    metric=st.sampled_from(["zero_one", "brier"]),
    event_time=st.sampled_from(["accepted", "client"]),
)
_CUTS = st.lists(st.integers(0, 60), max_size=4).map(lambda cuts: [*sorted(cuts), END_S])
_PROPERTY = settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])


@_PROPERTY
@given(_ROWS, _TERMS, _CUTS, st.randoms(use_true_random=False), st.integers(1, 3))
def test_passes_agree_with_a_row_by_row_recomputation(
    rows: list[Row], fixed: Terms, cuts: list[int], random: Any, writers: int
) -> None:
    """Whatever was read by whichever pass: late rows, windows, labels, failures, all of it."""
    random.shuffle(rows)
    frames = _frames(rows, fixed, writers=writers)
    ends = _ends(frames)
    passes, covered = [], dict.fromkeys(ends, 0)
    for cut_s in cuts:
        covered = {w: random.randint(covered[w], end) for w, end in ends.items()}
        passes.append(Pass(cut_s, covered))
    passes[-1] = Pass(END_S, ends)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), frames, flush_every=7)
        state = judged(Path(folder), registration(fixed), passes)
    _agrees(state, rows, frames, passes, fixed)


@_PROPERTY
@given(
    _ROWS, _TERMS, _CUTS, st.randoms(use_true_random=False), st.integers(1, 3), st.integers(1, 9)
)
def test_evidence_does_not_depend_on_how_it_arrived(
    rows: list[Row], fixed: Terms, cuts: list[int], random: Any, writers: int, flush_every: int
) -> None:
    """Order within the horizon, duplicates, flushes, journals, passes and restarts: all one.

    Each row is there before its horizon ends, each label when it was received.
    """
    rows = [
        row._replace(labels=tuple(one._replace(received_s=one.at_s) for one in row.labels))
        for row in rows
    ]
    together = _frames(rows, fixed)
    arrivals = [(row.at_s + random.randint(0, MATURITY_S), row, None) for row in rows]
    arrivals += [(one.at_s, row, one) for row in rows for one in row.labels]
    arrivals += [(random.randint(t, END_S), row, one) for t, row, one in arrivals if one]
    random.shuffle(arrivals)
    arrivals.sort(key=lambda arrival: arrival[0])
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        write(Path(one), together)
        at_once = judged(Path(one), registration(fixed), [Pass(END_S, _ends(together))])
        in_parts = _judged_as_it_comes(
            Path(other), arrivals, fixed, cuts, random, writers, flush_every
        )
    assert in_parts.evidence == at_once.evidence
    assert in_parts.accounting == at_once.accounting
    assert in_parts.first_event_us == at_once.first_event_us


def _judged_as_it_comes(
    folder: Path, arrivals: list[Any], fixed: Terms, cuts: list[int], random: Any, writers: int,
    flush_every: int,
) -> EvidenceState:  # fmt: skip
    """Archive what has arrived by each cut, look, and go on with a judge just started."""
    opened, checkpoint, ends = registration(fixed), None, dict.fromkeys(range(writers), 0)
    since = -1
    for cut_s in cuts:
        frames: list[Frame] = []
        for arrived_s, row, one in arrivals:
            if since < arrived_s <= cut_s:
                writer = random.randrange(writers)
                ends[writer] += 10
                place = {"writer": f"w{writer}", "end": ends[writer]}
                frames += (
                    answer_frames(row, fixed, **place) if one is None
                    else [label_frame(row, one, **place)]
                )  # fmt: skip
        write(folder, frames, flush_every=flush_every)
        covered = {f"w{writer}": end for writer, end in ends.items()}
        checkpoint = judge(folder, opened, checkpoint, Pass(cut_s, covered))
        since = cut_s
    return state_of(checkpoint)
