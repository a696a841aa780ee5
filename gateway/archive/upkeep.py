"""What the archive needs beside new rows: compaction, retention, and removal of what went.

Rules: one bounded piece of work a step, a large one only while there is nothing else to do.
Retention takes whole files, and none that holds rows of a registration that is open: its
entities must stay known, or one that comes back would count twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from gateway.archive.compaction import BUSY_FILES, IDLE_FILES
from gateway.archive.manifest import ArchiveFile
from gateway.archive.writer import ArchiveWriter

#: How long a reader may go on by the manifest that it has.
GRACE_US = 3_600_000_000
_RETENTION_EVERY_S = 60.0
_STEP_EVERY_S = 0.5
#: The rows of one file are that much of the retention apart, at most: they go together.
_SPANS = 8


class ArchiveUpkeep:
    """Keeps the archive of one writer small. Use it in the writer's thread."""

    def __init__(self, archive: ArchiveWriter, *, keep_us: int | None) -> None:
        """`keep_us` None: rows are kept for ever."""
        self._archive = archive
        self._keep_us = keep_us
        self._span_us = None if keep_us is None else max(1, keep_us // _SPANS)
        self._last: dict[str, float] = {}
        #: Files that are past their age and that an open registration needs.
        self.held_files = 0

    def step(self, *, is_idle: bool, needed_since_us: Mapping[str, int], now_us: int) -> None:
        """Do what is due. `needed_since_us`: by endpoint, since when an open registration needs
        its rows. Raises OSError, and then the archive is as it was."""
        if self._is_due("retention", _RETENTION_EVERY_S):
            self._let_go(needed_since_us, now_us)
            self._archive.remove_retired(before_us=now_us - GRACE_US)
        if self._is_due("compaction", _STEP_EVERY_S):
            at_least = IDLE_FILES if is_idle else BUSY_FILES
            self._archive.compact(at_least=at_least, at_us=now_us, span_us=self._span_us)

    def _let_go(self, needed_since_us: Mapping[str, int], now_us: int) -> None:
        if self._keep_us is None:
            return
        before_us = now_us - self._keep_us
        # Labels belong to no endpoint, so they are needed as long as any of them.
        needed = {"": min(needed_since_us.values(), default=None), **needed_since_us}

        def is_held(file: ArchiveFile) -> bool:
            since_us = needed.get(file.endpoint)
            return since_us is not None and file.latest_at_us >= since_us

        over = {f.path for f in self._archive.manifest.files if f.latest_at_us < before_us}
        held = {f.path for f in self._archive.manifest.files if f.path in over and is_held(f)}
        self.held_files = len(held)
        self._archive.let_go(lambda file: file.path in over - held, at_us=now_us)

    def _is_due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now - self._last.get(what, -every_s) < every_s:
            return False
        self._last[what] = now
        return True
