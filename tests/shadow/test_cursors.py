"""Cursors: what was done is read back from the frames themselves."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.core.records import ShadowRecord
from gateway.journal.frames import HEADER_BYTES, seal
from gateway.journal.writer import JournalWriter
from gateway.shadow.cursors import Cursors
from tests.archive.records import prediction, shadow


def written(root: Path, *records: ShadowRecord, writer_id: str = "s1") -> Cursors:
    """Cursors that have caught up with one journal of these frames."""
    writer = JournalWriter(root, writer_id=writer_id)
    for record in records:
        writer.append(record)
    writer.close()
    return caught_up(root)


def caught_up(root: Path) -> Cursors:
    found = Cursors(root)
    found.catch_up()
    return found


def test_nothing_was_done_before_the_first_frame(tmp_path: Path) -> None:
    """A registration without frames begins everywhere at the beginning."""
    assert caught_up(tmp_path).of("flights", 1) == {}


def test_the_cursor_is_the_greatest_end_of_each_source(tmp_path: Path) -> None:
    """By endpoint, registration and source, over all journals, whatever their order."""
    written(tmp_path, shadow("a", source_end=50), shadow("b", source_end=20), writer_id="s1")
    found = written(
        tmp_path,
        shadow("c", source_end=30),
        shadow("d", source_writer="w2", source_end=7),
        shadow("e", registration=2, source_end=99),
        shadow("f", endpoint="other", source_end=11),
        writer_id="s2",
    )
    assert found.of("flights", 1) == {"w1": 50, "w2": 7}
    assert found.of("flights", 2) == {"w1": 99}
    assert found.of("other", 1) == {"w1": 11}


def test_a_crash_between_two_frames_of_one_prediction_runs_it_again(tmp_path: Path) -> None:
    """The first frame of a prediction says where the one before it ended."""
    found = written(
        tmp_path,
        shadow("a", version="1", source_end=0),
        shadow("a", version="2", source_end=100),
        shadow("b", version="1", source_end=100),
    )
    assert found.of("flights", 1) == {"w1": 100}


def test_a_restart_reads_only_what_is_new(tmp_path: Path) -> None:
    """What the file says is taken as done, and the frames behind it are added."""
    writer = JournalWriter(tmp_path, writer_id="s1")
    first = writer.append(shadow("a", source_end=10))
    cursors = caught_up(tmp_path)
    cursors.finish("flights", 9)
    cursors.save({"s1": first, "w1": 999})
    writer.append(shadow("b", source_end=20))
    again = caught_up(tmp_path)
    assert again.of("flights", 1) == {"w1": 20}
    assert again.is_finished("flights", 9) and not again.is_finished("flights", 1)
    writer.close()


@pytest.mark.parametrize("harm", ["lost", "older", "empty", "nonsense"])
def test_the_file_only_saves_time(tmp_path: Path, harm: str) -> None:
    """Lost, older or damaged: the frames say the same."""
    path = tmp_path / ".cursors.json"
    cursors = written(tmp_path, shadow("a", source_end=10))
    cursors.save({})
    old = path.read_bytes()
    written(tmp_path, shadow("b", source_end=20), writer_id="s2").save({})
    {
        "lost": path.unlink,
        "older": lambda: path.write_bytes(old),
        "empty": lambda: path.write_bytes(b""),
        "nonsense": lambda: path.write_bytes(b"\xff{"),
    }[harm]()
    assert caught_up(tmp_path).of("flights", 1) == {"w1": 20}


def test_a_cursor_is_a_copy(tmp_path: Path) -> None:
    """What a lane does with its cursor is no business of the others."""
    found = written(tmp_path, shadow("a", source_end=10))
    found.of("flights", 1)["w1"] = 0
    assert found.of("flights", 1) == {"w1": 10}


def test_only_shadow_frames_move_a_cursor(tmp_path: Path) -> None:
    """Every record of every journal may be shown to the cursors."""
    cursors = Cursors(tmp_path)
    cursors.note(prediction("a"))
    assert cursors.of("flights", 1) == {}


def test_a_frame_of_another_release_does_not_stop_the_start(tmp_path: Path) -> None:
    """What lies behind it counts as not done."""
    strange = bytearray(HEADER_BYTES) + msgspec.msgpack.encode(["z"])
    seal(strange)
    written(tmp_path, shadow("a", source_end=10))
    with next((tmp_path / "s1").glob("*.seg")).open("ab") as file:
        file.write(strange)
    assert caught_up(tmp_path).of("flights", 1) == {"w1": 10}
