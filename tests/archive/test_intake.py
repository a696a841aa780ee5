"""From the journals into the archive: everything once, whatever cannot be read or written."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from gateway.archive import intake as intakes
from gateway.archive.intake import Intake
from gateway.archive.tables import ArchiveReader
from gateway.archive.writer import ArchiveWriter
from gateway.core.records import Record
from gateway.journal.frames import HEADER_BYTES, seal
from gateway.journal.reader import end_offset
from gateway.journal.writer import JournalWriter
from tests.archive.records import prediction


class Scene:
    """Two journals, one sealed with a torn end, and the intake of both."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "journal"
        self.archive = folder / "archive"
        self.torn = JournalWriter(self.root, writer_id="torn")
        self.alive = JournalWriter(self.root, writer_id="alive")
        self.seen: list[Record] = []
        self.intake = self.open()

    def open(self) -> Intake:
        return Intake(
            [self.root],
            ArchiveWriter(self.archive),
            sinks=[self.seen.append],
            flush_every_s=0.0,
        )

    def tear(self) -> None:
        self.torn.close()
        with self.file("torn").open("ab") as file:
            file.write(bytes(5))

    def file(self, writer_id: str) -> Path:
        return next((self.root / writer_id).glob("*.seg"))

    def end(self, writer_id: str) -> int:
        return end_offset(self.root / writer_id)

    def archived(self) -> list[str]:
        with ArchiveReader(self.archive) as reader:
            query = f"SELECT prediction_id FROM {reader.scan('predictions', 'flights')}"
            return sorted(reader.table(query)["prediction_id"].to_pylist())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@contextmanager
def no_room(beyond_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (beyond_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_every_record_is_archived_once(scene: Scene) -> None:
    """Over several rounds and a restart; sinks see what is read."""
    scene.alive.append(prediction("a"))
    scene.torn.append(prediction("b"))
    assert scene.intake.read() and scene.intake.flush(idle=False)
    scene.alive.append(prediction("c"))
    assert scene.intake.read()
    again = scene.open()  # nothing of `c` was flushed
    assert again.read() and again.flush(idle=False)
    assert not again.read() and not again.flush(idle=True)
    assert scene.archived() == ["a", "b", "c"]
    assert again.archived == {"alive": scene.end("alive"), "torn": scene.end("torn")}


def test_what_is_read_is_archived_only_when_it_is_flushed(scene: Scene) -> None:
    """`archived` never runs ahead of the manifest."""
    first = scene.alive.append(prediction("a"))
    scene.intake.read()
    assert not scene.intake.has_archived({"alive": first})
    scene.intake.flush(idle=False)
    assert scene.intake.has_archived({"alive": first})
    assert not scene.intake.has_archived({"alive": first + 1})
    assert not scene.intake.has_archived({"unknown": 1})


def test_a_torn_end_counts_as_archived_also_under_load(scene: Scene) -> None:
    """Bytes without a frame hold nothing back, though others always have records pending."""
    scene.torn.append(prediction("a"))
    scene.tear()
    for name in "bcd":
        scene.alive.append(prediction(name))
        scene.intake.read()
        scene.intake.flush(idle=False)
        scene.alive.append(prediction(name * 2))
        scene.intake.read()
    assert scene.intake.has_archived({"torn": scene.end("torn")})
    assert [(d.writer_id, d.end - d.start) for d in scene.intake.damages] == [("torn", 5)]


def test_a_journal_that_cannot_be_read_holds_up_no_other(scene: Scene) -> None:
    """It is named as long as it cannot, and never counts as archived."""
    strange = bytearray(HEADER_BYTES) + msgspec.msgpack.encode(["z"])
    seal(strange)
    scene.torn.append(prediction("a"))
    with scene.file("torn").open("ab") as file:
        file.write(strange)
    for name in "bc":
        scene.alive.append(prediction(name))
        scene.intake.read()
        scene.intake.flush(idle=False)
    assert "no record of this release" in scene.intake.problems["torn"]
    assert scene.archived() == ["a", "b", "c"]
    assert not scene.intake.has_archived({"torn": scene.end("torn")})


def test_a_full_disk_is_said_and_tried_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost, nothing is archived twice, and reading does not run ahead for ever."""
    monkeypatch.setattr(intakes, "_MOST_PENDING", 3)
    for number in range(5):
        scene.alive.append(prediction(f"{number}"))
    with no_room(100):
        assert scene.intake.read()
        assert not scene.intake.flush(idle=False)
        assert "the archive cannot be written" in scene.intake.problems[""]
        assert not scene.intake.read()
        assert not scene.intake.flush(idle=False)
    assert scene.intake.flush(idle=False)
    assert scene.intake.problems == {}
    assert scene.archived() == ["0", "1", "2", "3", "4"]
