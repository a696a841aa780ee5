"""Traffic of one registration, written to an archive, and what a judge must make of it.

`naive` is the oracle: the rules of statistics.md, one row at a time, in plain Python, from
the list of all rows and of all passes. It shares no code with the judge but the struct of
the terms.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gateway.archive.tables import ArchiveReader
from gateway.archive.writer import ArchiveWriter
from gateway.core.records import LabelsRecord, PredictionRecord, ShadowRecord
from gateway.core.registration import Terms
from gateway.judge.evaluation import evaluate
from gateway.judge.evidence_state import EvidenceState, state_of
from gateway.ports import Checkpoint, Registration
from tests.archive.records import label, labels, prediction, shadow, tensor
from tests.archive.scenes import S, rollouts


class Label(NamedTuple):
    """A label of a row, in seconds of the endpoint's clock."""

    value: float | str
    at_s: int
    received_s: int


class Row(NamedTuple):
    """One prediction of one row, as both versions answered it."""

    name: int
    at_s: int
    champion: float = 0.9  # P(class 1)
    challenger: float = 0.9
    champion_status: str = "ok"
    challenger_status: str = "ok"
    entity: str | None = None
    labels: tuple[Label, ...] = ()
    exclusion: str = ""
    live: bool = False  # whether the challenger gave the answer

    @property
    def id(self) -> str:
        return f"{self.name:032x}"


class Frame(NamedTuple):
    """A record in the journal of a writer, and the byte after it."""

    writer: str
    end: int
    record: PredictionRecord | ShadowRecord | LabelsRecord


class Pass(NamedTuple):
    """A look of the judge."""

    cut_s: int
    covered: dict[str, int]


def answer_frames(row: Row, terms: Terms, *, writer: str, end: int) -> list[Frame]:
    """The request's own record, and the shadow run of the version that did not answer."""
    champion = (row.champion, row.champion_status, "1", "d1")
    challenger = (row.challenger, row.challenger_status, "2", "d2")
    answered, shadowed = (challenger, champion) if row.live else (champion, challenger)
    by_client = terms.event_time == "client"
    record = prediction(
        row.id,
        accepted_at_us=0 if by_client else row.at_s * S,
        occurred_at_us=row.at_s * S if by_client else None,
        entity=row.entity,
        exclusion=row.exclusion,
        version=answered[2],
        digest=answered[3],
        status=answered[1],
        outputs=[tensor("p", np.array([answered[0]]))] if answered[1] == "ok" else [],
    )
    run = shadow(
        row.id,
        version=shadowed[2],
        digest=shadowed[3],
        status=shadowed[1],
        outputs=[tensor("p", np.array([[1 - shadowed[0], shadowed[0]]]))]
        if shadowed[1] == "ok"
        else [],
    )
    frames = [Frame(writer, end, record)]
    return frames if row.exclusion else [*frames, Frame(f"shadow-{writer}", end, run)]


def label_frame(row: Row, one: Label, *, writer: str, end: int) -> Frame:
    """One label of a row, alone in its record."""
    observed = label(row.id, one.value, observed_at_us=one.at_s * S)
    return Frame(writer, end, labels(observed, received_at_us=one.received_s * S))


def write(folder: Path, frames: Iterable[Frame], *, flush_every: int = 10**9) -> None:
    """Append and flush, at the end and on the way."""
    writer = ArchiveWriter(folder)
    for number, frame in enumerate(frames, start=1):
        writer.append(*frame)
        if number % flush_every == 0:
            writer.flush()
    writer.flush()


def judge(folder: Path, opened: Registration, previous: Checkpoint | None, one: Pass) -> Checkpoint:
    """A pass by a judge that was just started."""
    with ArchiveReader(folder) as reader:
        return _look(reader, opened, previous, one)


def _look(
    reader: ArchiveReader, opened: Registration, previous: Checkpoint | None, one: Pass
) -> Checkpoint:
    return evaluate(
        reader, opened, rollouts(opened), previous,
        cut_us=one.cut_s * S, covered=one.covered, at_us=0,
    )  # fmt: skip


def judged(folder: Path, opened: Registration, passes: Iterable[Pass]) -> EvidenceState:
    """The state after these passes, by judges just started and by one that lives on alike."""
    checkpoint = None
    with ArchiveReader(folder) as living:
        for one in passes:
            again = _look(living, opened, checkpoint, one)
            checkpoint = judge(folder, opened, checkpoint, one)
            assert bytes(again.evidence) == bytes(checkpoint.evidence)
    return state_of(checkpoint)


class Expected(NamedTuple):
    """What the oracle says; histograms as value → count."""

    benefit: dict[int, int]
    harm: dict[int, int]
    late: int
    after_window: int


def naive(
    rows: Sequence[Row], frames: Sequence[Frame], passes: Sequence[Pass], terms: Terms
) -> Expected:
    """The evidence after these passes, by the letter of the rules."""
    where = {
        frame.record.prediction_id: (frame.writer, frame.end)
        for frame in frames
        if isinstance(frame.record, PredictionRecord)
    }
    wanted = [row for row in rows if not row.exclusion]
    turns = {row: _turn(row.at_s + terms.maturity_s, passes) for row in wanted}
    late = [
        row for row, turn in turns.items()
        if turn is not None and not _is_covered(where[row.id], passes[turn].covered)
        and _is_covered(where[row.id], passes[-1].covered)
    ]  # fmt: skip
    in_time = [
        row for row, turn in turns.items()
        if turn is not None and _is_covered(where[row.id], passes[turn].covered)
    ]  # fmt: skip
    groups, after_window = _groups(in_time, terms)
    benefit: Counter[int] = Counter()
    harm: Counter[int] = Counter()
    for due_s, group in groups:
        turn = _turn(due_s, passes)
        if turn is None:
            continue
        ranges = [_range(row, _final(row, frames, passes[turn].covered, terms), terms)
                  for row in group]  # fmt: skip
        benefit[sum(_floor(least) for least, _ in ranges) // len(ranges)] += 1
        harm[sum(_floor(-greatest) for _, greatest in ranges) // len(ranges)] += 1
    return Expected(dict(benefit), dict(harm), len(late), after_window)


def _turn(due_s: int, passes: Sequence[Pass]) -> int | None:
    return next((n for n, one in enumerate(passes) if one.cut_s >= due_s), None)


def _is_covered(place: tuple[str, int], covered: Mapping[str, int]) -> bool:
    return place[1] <= covered.get(place[0], 0)


def _groups(rows: Sequence[Row], terms: Terms) -> tuple[list[tuple[int, list[Row]]], int]:
    """(when it is due, rows) of each entity; and how many rows came after their window."""
    if terms.entity.source == "row":
        return [(row.at_s + terms.maturity_s, [row]) for row in rows], 0
    groups, after = [], 0
    for entity in {row.entity for row in rows if row.entity is not None}:
        of_entity = [row for row in rows if row.entity == entity]
        end_s = min(row.at_s for row in of_entity) + terms.entity.window_s
        inside = [row for row in of_entity if row.at_s < end_s]
        groups.append((end_s + terms.maturity_s, inside))
        after += len(of_entity) - len(inside)
    return groups, after


def _final(
    row: Row, frames: Sequence[Frame], covered: Mapping[str, int], terms: Terms
) -> float | None:
    found: dict[str, tuple[int, int, str, float | str]] = {}
    for frame in frames:
        if not isinstance(frame.record, LabelsRecord) or frame.end > covered.get(frame.writer, 0):
            continue
        for one in frame.record.rows:
            if one.prediction_id != row.id:
                continue
            received = frame.record.received_at_us
            assert one.observed_at_us is not None
            if one.label_id in found:
                received = min(received, found[one.label_id][1])
            found[one.label_id] = (one.observed_at_us, received, one.label_id, one.label)
    by_client = terms.event_time == "client"
    limit = (row.at_s + terms.maturity_s) * S
    timely = [one for one in found.values() if one[0 if by_client else 1] <= limit]
    value = max(timely)[3] if timely else None
    return None if isinstance(value, str) else value


def _range(row: Row, label: float | None, terms: Terms) -> tuple[float, float]:
    """The least and the greatest d that what is known allows."""
    if row.champion_status in ("failed", "nonfinite", "timed_out"):
        return 0.0, 0.0
    unknown = ("refused", "expired")
    ds = []
    for y in [0.0, 1.0] if label is None else [label]:
        loss = _loss(row.champion, y, terms)
        for champion in [0.0, 1.0] if row.champion_status in unknown else [loss]:
            if row.challenger_status == "ok":
                challengers = [_loss(row.challenger, y, terms)]
            else:
                challengers = [0.0, 1.0] if row.challenger_status in unknown else [1.0]
            ds += [champion - challenger for challenger in challengers]
    if row.champion_status in unknown:
        return -1.0, 1.0
    return min(ds), max(ds)


def _loss(p: float, y: float, terms: Terms) -> float:
    if terms.metric == "zero_one":
        return float((p >= 0.5) != (y == 1.0))
    return min((p - y) ** 2, 1.0)


def _floor(d: float) -> int:
    return math.floor(d * 65_536)
