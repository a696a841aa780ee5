"""The one writer of a journal directory: append, rotate, sync.

Rules: `append` is on the path of every answer, so it makes one `write` call and nothing else;
the disk is waited for in a background thread. A write that fails or falls short is taken back,
so that a reader never finds half a record in front of a whole one.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from gateway.core.records import Record
from gateway.errors import JournalUnavailable
from gateway.journal.frames import HEADER_BYTES, MAX_PAYLOAD_BYTES, seal
from gateway.journal.tally import open_tally, write_tally

SYNC_EVERY_S = 0.1
SEGMENT_BYTES = 64 << 20
#: As much as a record takes, to find out whether there is room again.
_TRIAL = bytes(4096)


class JournalWriter:
    """Appends records to a directory of its own, which it locks for as long as it lives."""

    def __init__(self, root: Path, *, writer_id: str, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.writer_id = writer_id
        self.offset = 0
        self.sequence = 0
        self.problem = ""
        self._folder, self._lock, self._tally = _make_locked_folder(root, writer_id)
        self._segment_bytes = segment_bytes
        self._segment_start = 0
        self._encode_into = msgspec.msgpack.Encoder().encode_into
        self._buffer = bytearray(4096)
        self._descriptor = self._open_segment()
        self._was_refused = False
        self._sync = _Syncer(self._sync_failed)
        self._sync.watch(self._descriptor)

    def append(self, record: Record) -> int:
        """Write one record; return the offset behind it. Sets the record's sequence number.

        When this returns the record survives the death of the process. Raises
        JournalUnavailable, and then nothing of the record is in the journal.
        """
        if self.problem:
            raise JournalUnavailable(self.problem)
        frame = self._frame(record, self.sequence)
        self._write(frame)
        self._advance(1, len(frame))
        return self.offset

    def append_all(self, records: Sequence[Record]) -> int:
        """Write several records at once; return the offset behind the last.

        As `append`, for those whom nobody waits for: one call of the system pays for all.
        After JournalUnavailable nothing of any of them is in the journal.
        """
        if self.problem:
            raise JournalUnavailable(self.problem)
        frames = bytearray()
        for sequence, record in enumerate(records, self.sequence):
            frames += self._frame(record, sequence)
        self._write(frames)
        self._advance(len(records), len(frames))
        return self.offset

    def _frame(self, record: Record, sequence: int) -> bytearray:
        """The record's whole frame, in a buffer that the next call overwrites."""
        record.sequence = sequence
        buffer = self._buffer
        self._encode_into(record, buffer, HEADER_BYTES)
        if len(buffer) - HEADER_BYTES > MAX_PAYLOAD_BYTES:
            self._buffer = bytearray(4096)
            raise JournalUnavailable("a record is larger than a journal frame may be")
        seal(buffer)
        return buffer

    def _advance(self, records: int, size_bytes: int) -> None:
        self._was_refused = False
        self.sequence += records
        self.offset += size_bytes
        self._sync.dirty = True
        if self.offset - self._segment_start >= self._segment_bytes:
            self._rotate()

    def count_unrecorded(self, accepted_rows: int) -> None:
        """Say that rows, up to `accepted_rows` of this writer, are answered without a record.

        Raises JournalUnavailable where not even that can be written.
        """
        try:
            write_tally(self._tally, accepted_rows)
        except OSError as error:
            raise JournalUnavailable(f"the tally cannot be written: {error.strerror}") from error

    def is_writable(self) -> bool:
        """Whether there is room for records; tried out if the last one was refused."""
        if self._was_refused and not self.problem:
            try:
                self._write(_TRIAL)
                os.ftruncate(self._descriptor, self.offset - self._segment_start)
            except (JournalUnavailable, OSError):
                return False
            self._was_refused = False
        return not self.problem

    def _write(self, frame: bytes | bytearray) -> None:
        try:
            written = os.write(self._descriptor, frame)
        except OSError as error:
            raise self._taken_back(f"the journal cannot be written: {error.strerror}") from error
        if written != len(frame):
            raise self._taken_back("the journal cannot be written: the disk is full")

    def _taken_back(self, message: str) -> JournalUnavailable:
        self._was_refused = True
        try:
            os.ftruncate(self._descriptor, self.offset - self._segment_start)
        except OSError as error:
            # Half a frame stays behind, and only the next process may write again.
            self.problem = f"{message}; and it could not be taken back: {error.strerror}"
            return JournalUnavailable(self.problem)
        return JournalUnavailable(message)

    def _rotate(self) -> None:
        try:
            opened = self._open_segment()
        except OSError:
            return  # this segment grows on, and the next record tries again
        finished, self._descriptor = self._descriptor, opened
        self._segment_start = self.offset
        self._sync.watch(opened, finished=finished)

    def _open_segment(self) -> int:
        path = self._folder / segment_name(self.offset)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            _sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        return descriptor

    def _sync_failed(self, message: str) -> None:
        # After a failed fdatasync the kernel may have dropped the pages: nothing that this
        # writer promises can be believed any more.
        self.problem = message

    async def synced(self) -> None:
        """Return when everything appended so far is on the disk (group commit).

        Raises JournalUnavailable if the disk reports an error.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._sync.on_next(partial(_resolve_soon, loop, done))
        await done
        if self.problem:
            raise JournalUnavailable(self.problem)

    def sync(self) -> None:
        """Return when everything appended so far is on the disk; for callers without a loop."""
        done = threading.Event()
        self._sync.on_next(done.set)
        done.wait()
        if self.problem:
            raise JournalUnavailable(self.problem)

    def close(self) -> None:
        """Sync what is left and seal the directory by letting go of its lock."""
        # The numbers of closed files are given to other files: nothing may be written to them.
        self.problem = self.problem or "the journal is closed; its process is ending"
        self._sync.stop()
        for descriptor in (self._descriptor, self._tally, self._lock):
            os.close(descriptor)
        self._tally = -1


class _Syncer:
    """A thread that calls fdatasync at most SYNC_EVERY_S after a write, or when asked to."""

    def __init__(self, failed: Callable[[str], None]) -> None:
        self.dirty = False
        self._failed = failed
        self._descriptor = -1
        self._finished: list[int] = []
        self._waiters: list[Callable[[], None]] = []
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="journal-sync", daemon=True)
        self._thread.start()

    def watch(self, descriptor: int, *, finished: int | None = None) -> None:
        with self._guard:
            self._descriptor = descriptor
            if finished is not None:
                self._finished.append(finished)

    def on_next(self, call: Callable[[], None]) -> None:
        with self._guard:
            self._waiters.append(call)
        self._wake.set()

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(SYNC_EVERY_S)
            self._wake.clear()
            self._pass()
        self._pass()

    def _pass(self) -> None:
        # The waiters are taken before the sync: whoever comes later waits for the next one.
        with self._guard:
            waiters, self._waiters = self._waiters, []
            finished, self._finished = self._finished, []
            descriptor = self._descriptor
        if self.dirty or waiters or finished:
            self.dirty = False
            self._sync([*finished, descriptor])
        for descriptor in finished:
            os.close(descriptor)
        for call in waiters:
            call()

    def _sync(self, descriptors: list[int]) -> None:
        try:
            for descriptor in descriptors:
                os.fdatasync(descriptor)
        except OSError as error:
            self._failed(f"the disk of the journal reports an error: {error.strerror}")


def segment_name(start_offset: int) -> str:
    """The file name of the segment whose first byte has this offset."""
    return f"{start_offset:016x}.seg"


def _resolve_soon(loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
    loop.call_soon_threadsafe(_resolve, done)


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _make_locked_folder(root: Path, writer_id: str) -> tuple[Path, int, int]:
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = root / f".new-{writer_id}"
    new.mkdir(mode=0o700)
    lock = os.open(new / "lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    tally = open_tally(new)
    folder = root / writer_id
    new.rename(folder)
    _sync_folder(root)
    return folder, lock, tally


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
