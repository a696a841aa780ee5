"""What is said of a challenger without labels."""

from __future__ import annotations

from pathlib import Path

from gateway.archive.tables import ArchiveReader
from gateway.judge.label_free import Failures, LabelFreeReport, Latency, label_free_report
from tests.archive.records import prediction, shadow
from tests.archive.scenes import scope, terms
from tests.judge.traffic import Frame, Row, answer_frames, write


def _report(folder: Path, rows: list[Row]) -> LabelFreeReport:
    frames: list[Frame] = []
    for row in rows:
        frames += answer_frames(row, terms(), writer="w0", end=10 * (row.name + 1))
    write(folder, frames)
    with ArchiveReader(folder) as reader:
        return label_free_report(reader, scope())


def test_agreement_is_of_decisions_where_both_answered(tmp_path: Path) -> None:
    """Different probabilities on one side of the threshold agree; failures are no disagreement."""
    report = _report(
        tmp_path,
        [
            Row(0, 0, 0.6, 0.9),
            Row(1, 0, 0.6, 0.9),
            Row(2, 0, 0.6, 0.1),
            Row(3, 0, 0.6, 0.1, live=True),
            Row(4, 0, challenger_status="failed"),
            Row(5, 0, exclusion="pinned"),
        ],
    )
    assert (report.both_answered, report.agreement) == (4, 0.5)


def test_failures_stand_beside_how_often_each_was_asked(tmp_path: Path) -> None:
    """By kind and by version, whoever answered the client."""
    report = _report(
        tmp_path,
        [
            Row(0, 0, challenger_status="failed"),
            Row(1, 0, challenger_status="refused"),
            Row(2, 0, champion_status="timed_out", live=True),
            Row(3, 0, challenger_status="nonfinite", live=True),
        ],
    )
    assert report.challenger == Failures(n=4, failed=1, refused=1, nonfinite=1)
    assert report.champion == Failures(n=4, timed_out=1)


def test_latencies_are_of_requests_that_both_ran_alone(tmp_path: Path) -> None:
    """Only sampled requests count, each once however often its frame was written."""
    frames = [
        *(Frame("w1", end, prediction(one)) for end, one in enumerate("abcd", start=1)),
        Frame("s1", 1, shadow("a", champion_alone_us=10, challenger_alone_us=30)),
        Frame("s1", 2, shadow("b", champion_alone_us=20, challenger_alone_us=50)),
        Frame("s1", 3, shadow("b", champion_alone_us=20, challenger_alone_us=50)),
        Frame("s1", 4, shadow("c")),
        Frame("s1", 5, shadow("d", registration=2, champion_alone_us=9, challenger_alone_us=9)),
    ]
    write(tmp_path, frames)
    with ArchiveReader(tmp_path) as reader:
        report = label_free_report(reader, scope())
    assert report.champion_latency == Latency(n=2, p50_us=15, p99_us=19.9)
    assert report.challenger_latency == Latency(n=2, p50_us=40, p99_us=49.8)


def test_without_rows_there_are_no_figures(tmp_path: Path) -> None:
    """None and an n of 0; never an agreement of 0, never a pass."""
    report = _report(tmp_path, [])
    assert (report.both_answered, report.agreement) == (0, None)
    assert (report.champion_latency, report.challenger_latency) == (None, None)
    assert report.challenger == Failures(n=0)
