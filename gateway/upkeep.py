"""The Evaluator's housekeeping: nothing on its disk grows for ever.

Rules: a segment of a journal goes when it is past its keep, all of it is in the archive, and
every shadow lane is past it. A lane that is not is told to let go: it writes down what it
will never run as `expired`, which its books show and which no promotion gets past. Housework
that fails is said and tried again; it holds up nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from gateway.archive.upkeep import ArchiveUpkeep
from gateway.journal.reader import live_writers
from gateway.journal.retention import let_go, overdue
from gateway.judge.acknowledgement import forget_gone
from gateway.ports import ControlStore, Registration
from gateway.shadow.cursors import Cursors
from gateway.shadow.lane import Lane

_JOURNALS_EVERY_S = 2.0
_REPORTS_EVERY_S = 60.0


class Upkeep:
    """Tends the journals and the archive of one state folder."""

    def __init__(
        self,
        state: Path,
        *,
        archive: ArchiveUpkeep,
        cursors: Cursors,
        journal_keep_us: int,
        journal_keep_bytes: int,
    ) -> None:
        self._journals = state / "journal"
        self._shadows = state / "shadow"
        self._archive = archive
        self._cursors = cursors
        self._keep_us = journal_keep_us
        self._keep_bytes = journal_keep_bytes
        self._tended_at = 0.0
        self._forgot_at = 0.0

    @property
    def problem(self) -> str:
        """What retention cannot do, and why; empty when it can do all."""
        held = self._archive.held_files
        if not held:
            return ""
        return (
            f"{held} files of the archive are past retention and kept for open registrations; "
            "withdraw those challengers to let them go"
        )

    def tend_archive(self, registrations: Iterable[Registration], *, is_idle: bool) -> None:
        """One step of compaction and retention."""
        needed_since_us: dict[str, int] = {}
        for one in registrations:
            if one.closed_epoch is None:
                before_us = needed_since_us.get(one.endpoint, one.opened_at_us)
                needed_since_us[one.endpoint] = min(before_us, one.opened_at_us)
        now_us = time.time_ns() // 1000
        self._archive.step(is_idle=is_idle, needed_since_us=needed_since_us, now_us=now_us)

    def tend_reports(self, store: ControlStore) -> None:
        """Forget what workers said that are long gone."""
        now = time.monotonic()
        if now - self._forgot_at >= _REPORTS_EVERY_S:
            self._forgot_at = now
            forget_gone(store, lambda: live_writers(self._journals), now_us=time.time_ns() // 1000)

    def tend_journals(self, lanes: Iterable[Lane], archived: Mapping[str, int]) -> None:
        """Let go of segments. `archived` is how far each journal was in the archive before the
        store was last read, `lanes` those of every registration that the store then knew: so
        no registration can be missing that a segment in the archive holds rows of."""
        now = time.monotonic()
        if now - self._tended_at < _JOURNALS_EVERY_S:
            return
        self._tended_at = now
        roots, everybody = (self._journals, self._shadows), list(lanes)
        ends = overdue(
            roots,
            keep_us=self._keep_us,
            keep_bytes=self._keep_bytes,
            now_us=time.time_ns() // 1000,
        )
        for lane in everybody:
            lane.expire_until(ends)
        let_go(
            roots, {name: self._done(name, end, everybody, archived) for name, end in ends.items()}
        )

    def _done(self, name: str, end: int, lanes: Iterable[Lane], archived: Mapping[str, int]) -> int:
        """How much of a journal up to `end` nobody needs any more."""
        if (self._shadows / name).is_dir():
            readers = [self._cursors.read.get(name, 0)]
        else:
            readers = [lane.positions.get(name, 0) for lane in lanes]
        return min(end, archived.get(name, 0), *readers)
