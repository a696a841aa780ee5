"""A lane between a source journal and a shadow journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from gateway.core.records import ShadowRecord
from gateway.core.routes import Rollout
from gateway.journal.reader import JournalTail
from gateway.journal.shared import SharedJournals
from gateway.journal.writer import JournalWriter
from gateway.ports import Registration
from gateway.shadow.cursors import Cursor
from gateway.shadow.gate import Gate
from gateway.shadow.lane import Lane
from gateway.shadow.runner import Runner
from tests.archive.scenes import OPENED, registration, rollouts
from tests.shadow.work import STUB, Stub

REGISTRATION = registration()


def rollout_at(epoch: int) -> Rollout:
    """Version 2 in shadow of 1, both of them the stub."""
    first = rollouts(REGISTRATION)[OPENED]
    versions = {
        name: msgspec.structs.replace(STUB, version=name, digest=f"d{name}") for name in "12"
    }
    return msgspec.structs.replace(first, epoch=epoch, versions=versions)


def open_lane(
    folder: Path,
    stub: Stub,
    *,
    writer_id: str = "s1",
    cursor: Cursor | None = None,
    opened: Registration = REGISTRATION,
    rollouts_from: Callable[[int], Rollout] = rollout_at,
    gate: Gate | None = None,
) -> Lane:
    """A lane from `folder/journal` to `folder/shadow`."""
    (folder / "journal").mkdir(exist_ok=True)
    return Lane(
        opened,
        sources=SharedJournals(folder / "journal"),
        journal=JournalWriter(folder / "shadow", writer_id=writer_id),
        rollout_at=rollouts_from,
        make_runner=lambda facts: Runner(
            facts, command=stub.command, root=".", memory_bytes=1 << 30, cpu_limit_s=10.0
        ),
        cursor=cursor or {},
        gate=gate or Gate(None, clock_us=lambda: 0),
    )


def end(lane: Lane) -> None:
    """What the thread does when it ends."""
    lane.stop()
    lane.run()


def frames(folder: Path, writer_id: str = "s1") -> list[ShadowRecord]:
    """The shadow frames of a journal."""
    entries = JournalTail(folder / "shadow" / writer_id).drain()
    return [entry.record for entry in entries if isinstance(entry.record, ShadowRecord)]
