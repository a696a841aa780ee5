"""The writer: a record is in the journal when `append` returns, and else nothing of it is."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import JournalUnavailable
from gateway.journal import writer as writing
from gateway.journal.reader import JournalTail, is_sealed, segment_starts, writer_ids
from gateway.journal.writer import JournalWriter
from tests.archive.records import prediction
from tests.journal.files import ids, numbered, open_writer, segment, write
from tests.serving_process import eventually

#: Appends until the limit on the size of a file stops it, then with room again.
_FULL = """
import json, resource, sys
from pathlib import Path
from gateway.errors import JournalUnavailable
from gateway.journal.writer import JournalWriter
from tests.archive.records import prediction

def attempt(number, padding):
    try:
        writer.append(prediction(str(number), error="x" * padding))
        return "ok"
    except JournalUnavailable as error:
        return str(error)

root, limit = Path(sys.argv[1]), int(sys.argv[2])
writer = JournalWriter(root, writer_id="w1")
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
said = [attempt(0, 10), attempt(1, 5000), attempt(2, 5000)]
writable = [writer.is_writable()]
said.append(attempt(3, 10))
writable.append(writer.is_writable())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writable.append(writer.is_writable())
said.append(attempt(4, 5000))
writer.close()
print(json.dumps({"said": said, "writable": writable}))
"""

#: Rotates while no file can be opened, then with room again.
_NO_FILES = """
import resource, sys
from pathlib import Path
from gateway.journal.writer import JournalWriter
from tests.archive.records import prediction

writer = JournalWriter(Path(sys.argv[1]), writer_id="w1", segment_bytes=300)
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
for number in range(12):
    writer.append(prediction(str(number)))
resource.setrlimit(resource.RLIMIT_NOFILE, before)
for number in range(12, 16):
    writer.append(prediction(str(number), error="x" * 200))
writer.close()
"""


@pytest.mark.parametrize("limit", [300, 2000, 4100])
def test_a_write_that_falls_short_is_taken_back(tmp_path: Path, limit: int) -> None:
    """When the disk is full nothing half-written stays, smaller records still find room, and
    everything goes on when there is room again."""
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path), str(limit)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert [text == "ok" for text in found["said"]] == [True, False, False, True, True]
    assert found["said"][1].startswith("the journal cannot be written: ")
    assert found["writable"] == [False, True, True]
    tail = JournalTail(tmp_path / "w1")
    records = [entry.record for entry in tail.drain()]
    assert [record.prediction_id for record in records] == ["0", "3", "4"]
    assert [record.sequence for record in records] == [0, 1, 2]
    assert tail.damages == []


#: Appends three records at once with room for two, then with room for all.
_FULL_FOR_SEVERAL = """
import resource, sys
from pathlib import Path
from gateway.errors import JournalUnavailable
from gateway.journal.writer import JournalWriter
from tests.archive.records import prediction

writer = JournalWriter(Path(sys.argv[1]), writer_id="w1")
size = writer.append(prediction("0"))
resource.setrlimit(resource.RLIMIT_FSIZE, (size * 7 // 2, resource.RLIM_INFINITY))
try:
    writer.append_all([prediction(str(n)) for n in (1, 2, 3)])
except JournalUnavailable:
    print(writer.offset == size)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(writer.append_all([prediction(str(n)) for n in (4, 5, 6)]) == writer.offset)
writer.append(prediction("7"))
"""


def test_several_records_are_written_all_or_none(tmp_path: Path) -> None:
    """Without room for the last none of them is there; the next ones follow without a gap."""
    done = subprocess.run(
        [sys.executable, "-c", _FULL_FOR_SEVERAL, str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["True", "True"]
    tail = JournalTail(tmp_path / "w1")
    records = [entry.record for entry in tail.drain()]
    assert [record.prediction_id for record in records] == ["0", "4", "5", "6", "7"]
    assert [record.sequence for record in records] == [0, 1, 2, 3, 4]
    assert tail.damages == []


def test_offsets_count_over_all_segments(tmp_path: Path) -> None:
    """Each segment is named by the offset of its first byte, and the last may be empty."""
    ends = write(tmp_path, *numbered(9), segment_bytes=300)
    starts = segment_starts(tmp_path / "w1")
    assert len(starts) > 2
    assert set(starts) <= {0, *ends}
    sizes = [segment(tmp_path, n).stat().st_size for n in range(len(starts))]
    assert [start + size for start, size in zip(starts, sizes, strict=True)][:-1] == starts[1:]
    assert starts[-1] + sizes[-1] == ends[-1]


def test_a_segment_that_cannot_be_made_lets_the_old_one_grow(tmp_path: Path) -> None:
    """No record is refused because the next segment is; it is tried again with each."""
    subprocess.run([sys.executable, "-c", _NO_FILES, str(tmp_path)], check=True)
    starts = segment_starts(tmp_path / "w1")
    sizes = [segment(tmp_path, n).stat().st_size for n in range(len(starts))]
    assert sizes[0] > 1000 and len(sizes) > 2
    tail = JournalTail(tmp_path / "w1")
    assert ids(tail) == [str(n) for n in range(16)]
    assert tail.damages == []


def test_a_journal_is_locked_before_it_can_be_seen(tmp_path: Path) -> None:
    """Nobody else can lock it while its writer lives, and its name never had `.new-` for long."""
    writer = open_writer(tmp_path)
    assert writer_ids(tmp_path) == ["w1"]
    assert [path.name for path in tmp_path.iterdir()] == ["w1"]
    with (tmp_path / "w1" / "lock").open("rb") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    writer.close()
    assert is_sealed(tmp_path / "w1")


def test_a_writer_id_is_never_used_twice(tmp_path: Path) -> None:
    """A journal that exists is not opened again, whoever asks."""
    write(tmp_path, *numbered(1))
    with pytest.raises(OSError):
        JournalWriter(tmp_path, writer_id="w1")


def test_death_seals_what_was_appended(tmp_path: Path) -> None:
    """A killed writer leaves every record that it had appended, and its lock goes with it."""
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from gateway.journal.writer import JournalWriter\n"
        "from tests.archive.records import prediction\n"
        "writer = JournalWriter(Path(sys.argv[1]), writer_id='w1', segment_bytes=500)\n"
        "for n in range(20): writer.append(prediction(str(n)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert is_sealed(tmp_path / "w1")
    assert ids(JournalTail(tmp_path / "w1")) == [str(n) for n in range(20)]


def test_a_child_process_does_not_keep_the_journal_alive(tmp_path: Path) -> None:
    """What the writer's process starts does not inherit its lock."""
    writer = open_writer(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        writer.close()
        assert is_sealed(tmp_path / "w1")
        child.kill()


def test_records_reach_the_disk_soon(tmp_path: Path) -> None:
    """The background thread syncs what was appended without being asked."""
    writer = open_writer(tmp_path)
    writer.append(prediction("0"))
    eventually(lambda: not writer._sync.dirty)
    writer.close()


def test_a_group_commit_returns_when_all_is_on_the_disk(tmp_path: Path) -> None:
    """Many may wait for one sync; each returns."""
    writer = open_writer(tmp_path)

    async def commit(number: int) -> None:
        writer.append(prediction(str(number)))
        await writer.synced()

    async def commit_all() -> None:
        await asyncio.gather(*(commit(n) for n in range(20)))

    asyncio.run(commit_all())
    writer.sync()
    writer.close()
    assert len(ids(JournalTail(tmp_path / "w1"))) == 20


def test_a_disk_that_cannot_sync_is_believed_no_more(tmp_path: Path) -> None:
    """After a failed sync the writer refuses everything, and whoever waits for it is told."""
    writer = open_writer(tmp_path)
    writer.append(prediction("0"))
    reading, writing_end = os.pipe()  # a pipe has no disk: fdatasync fails on it
    real = writer._descriptor
    writer._sync.watch(writing_end)
    with pytest.raises(JournalUnavailable, match="the disk of the journal reports an error"):
        writer.sync()
    with pytest.raises(JournalUnavailable, match="reports an error"):
        asyncio.run(writer.synced())
    with pytest.raises(JournalUnavailable, match="reports an error"):
        writer.append(prediction("1"))
    assert not writer.is_writable()
    writer._sync.watch(real)
    writer.close()
    for descriptor in (reading, writing_end):
        os.close(descriptor)
    assert ids(JournalTail(tmp_path / "w1")) == ["0"]


def test_a_closed_journal_is_written_by_nobody(tmp_path: Path) -> None:
    """An append after the end is refused instead of going into whatever file came after."""
    writer = open_writer(tmp_path)
    descriptor = writer._descriptor
    writer.close()
    other = tmp_path / "other"
    reopened = os.open(other, os.O_RDWR | os.O_CREAT)
    os.dup2(reopened, descriptor)
    with pytest.raises(JournalUnavailable, match="closed"):
        writer.append(prediction("0"))
    assert other.read_bytes() == b""
    for one in {descriptor, reopened}:
        os.close(one)


def test_a_record_larger_than_a_frame_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said so, and the next record is none the worse."""
    monkeypatch.setattr(writing, "MAX_PAYLOAD_BYTES", 1000)
    writer = open_writer(tmp_path)
    with pytest.raises(JournalUnavailable, match="larger than a journal frame"):
        writer.append(prediction("0", error="x" * 2000))
    writer.append(prediction("1"))
    writer.close()
    assert ids(JournalTail(tmp_path / "w1")) == ["1"]
