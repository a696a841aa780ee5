"""The tally: how many rows were accepted, where there is no room for their records."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from gateway.errors import JournalUnavailable
from gateway.journal.tally import read_tally
from gateway.journal.writer import JournalWriter
from tests.archive.records import prediction


def test_a_journal_that_refused_nothing_has_no_tally(tmp_path: Path) -> None:
    """Neither has one from before there were tallies."""
    writer = JournalWriter(tmp_path, writer_id="a" * 12)
    writer.append(prediction("0", accepted_rows=1))
    assert read_tally(tmp_path / writer.writer_id) is None
    writer.close()
    (tmp_path / "old").mkdir()
    assert read_tally(tmp_path / "old") is None


def test_a_full_disk_has_room_for_the_tally(tmp_path: Path) -> None:
    """Its bytes were there since the journal began, so they are only written over."""
    writer = JournalWriter(tmp_path, writer_id="a" * 12)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, before[1]))
    try:
        with pytest.raises(JournalUnavailable):
            writer.append(prediction("0", accepted_rows=1))
        writer.count_unrecorded(70_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    found = read_tally(tmp_path / writer.writer_id)
    assert found is not None and found.accepted_rows == 70_000
    writer.close()
    with pytest.raises(JournalUnavailable, match="tally"):
        writer.count_unrecorded(70_001)
