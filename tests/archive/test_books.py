"""The books balance, whatever became of the rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.archive.books import Books, LabelBooks, books, label_books
from gateway.archive.tables import ArchiveReader
from gateway.archive.writer import ArchiveWriter
from gateway.core.split import is_sampled
from tests.archive.records import label, labels, prediction, shadow
from tests.archive.scenes import OPENED, S, closed, registration, rollouts, scope


def test_each_row_is_in_exactly_one_state(tmp_path: Path) -> None:
    """One row of every kind; batches count their rows."""
    writer = ArchiveWriter(tmp_path)
    frames = [
        prediction("before", epoch=OPENED - 1),
        prediction("undecodable", exclusion="undecodable", status="undecodable"),
        prediction("pinned", exclusion="pinned"),
        prediction("compared", rows=3),
        shadow("compared", rows=3),
        prediction("champion failed", status="failed"),
        shadow("champion failed"),
        prediction("failed"),
        shadow("failed", status="failed"),
        prediction("nonfinite"),
        shadow("nonfinite", status="nonfinite"),
        prediction("timed out"),
        shadow("timed out", status="timed_out"),
        prediction("refused"),
        shadow("refused", status="refused"),
        prediction("expired"),
        shadow("expired", status="expired"),
        prediction("pending", rows=2),
        prediction("other registration"),
        shadow("other registration", registration=9),
        prediction("live", version="2", digest="d2", role="challenger"),
        shadow("live", version="1", digest="d1", registration=7),
        prediction("live, champion owed", version="2", digest="d2", role="challenger"),
        prediction("live, failed", version="2", digest="d2", status="failed"),
        shadow("live, failed", version="1", digest="d1"),
        prediction("after", epoch=OPENED + 1),
    ]
    for end, record in enumerate(frames, start=1):
        writer.append("w1", end, record)
    writer.flush()
    opened = closed(registration(), at_epoch=OPENED + 1)
    with ArchiveReader(tmp_path) as reader:
        found = books(reader, scope(opened))
    assert found == Books(
        journalled=17, ineligible=2, compared=5, failed=3, timed_out=1, refused=1, expired=1,
        pending=4, unsampled=0,
    )  # fmt: skip
    assert found.balanced


def test_a_shadow_run_that_was_written_twice_counts_once(tmp_path: Path) -> None:
    """After a crash the same run may be there again; the first one is the one."""
    writer = ArchiveWriter(tmp_path)
    writer.append("w1", 1, prediction("p1"))
    writer.append("s1", 1, shadow("p1", status="ok", started_at_us=5))
    writer.append("s2", 1, shadow("p1", status="failed", started_at_us=6))
    writer.flush()
    with ArchiveReader(tmp_path) as reader:
        assert books(reader, scope()) == Books(journalled=1, compared=1)


def test_rows_beyond_what_is_covered_are_not_seen(tmp_path: Path) -> None:
    """The books at a checkpoint are the books of what it covers."""
    writer = ArchiveWriter(tmp_path)
    writer.append("w1", 5, prediction("p1"))
    writer.append("w1", 9, prediction("p2"))
    writer.append("s1", 5, shadow("p1"))
    writer.flush()
    with ArchiveReader(tmp_path) as reader:
        assert books(reader, scope(covered={"w1": 5})) == Books(journalled=1, compared=1)
        assert books(reader, scope(covered={"w1": 9})) == Books(journalled=2, compared=1, pending=1)


_ROW = st.tuples(
    st.integers(0, 2),  # epoch
    st.sampled_from(["", "pinned", "overload"]),
    st.integers(1, 3),  # rows
    st.sampled_from([None, "ok", "failed", "timed_out", "nonfinite", "refused", "expired"]),
    st.booleans(),  # answered by the challenger
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_ROW, max_size=40), st.integers(0, 10_000))
def test_the_books_balance(drawn: list[tuple[int, str, int, str | None, bool]], share: int) -> None:
    """Any mix of outcomes and any sampling add up, and unsampled is what the hash says."""
    opened = registration()
    shares = (10_000, share, 0)
    unsampled = 0
    with tempfile.TemporaryDirectory() as folder:
        writer = ArchiveWriter(Path(folder))
        for n, (epoch, exclusion, rows, status, live) in enumerate(drawn, start=1):
            one = f"{n:032x}"
            served = {"version": "2", "digest": "d2"} if live else {}
            record = prediction(one, epoch=OPENED + epoch, exclusion=exclusion, rows=rows, **served)
            writer.append("w1", n, record)
            sampled = is_sampled(
                one, key=bytes.fromhex(opened.digest), probability_bp=shares[epoch]
            )
            unsampled += rows * (not sampled and exclusion == "")
            if status is not None and sampled:
                side = {"version": "1", "digest": "d1"} if live else {}
                writer.append("s", n, shadow(one, rows=rows, status=status, **side))
        writer.flush()
        with ArchiveReader(Path(folder)) as reader:
            found = books(reader, scope(opened, rollouts=rollouts(opened, *shares)))
    assert found.balanced
    assert found.journalled == sum(rows for _, _, rows, _, _ in drawn)
    assert found.unsampled == unsampled


def test_labels_are_matched_parked_and_late(tmp_path: Path) -> None:
    """Each label is somewhere; a late one is kept and counted."""
    writer = ArchiveWriter(tmp_path)
    writer.append("w1", 1, prediction("p1", rows=2, accepted_at_us=0))
    writer.append("w1", 2, prediction("p2", endpoint="other"))
    first = label("p1", 1.0)
    timely = labels(first, first, label("p1", 0.0, row=1), received_at_us=50 * S)
    writer.append("w1", 3, timely)
    late = labels(label("p1", 0.0), label("nobody", 1.0), label("p1", 1.0, row=9, label_id="x"),
                  label("p2", 1.0), received_at_us=500 * S)  # fmt: skip
    writer.append("w1", 4, late)
    writer.flush()
    with ArchiveReader(tmp_path) as reader:
        found = label_books(reader, "flights", maturity_us=100 * S, event_time="accepted")
    assert found == LabelBooks(
        received=6, duplicates=1, matched=3, parked=2, corrections=1, late=1, labelled_rows=2
    )
