"""What dead processes counted is kept, in one file a kind instead of one a process.

Each process of the host writes its metrics into mapped files that bear its pid, and a scrape
adds up all of them. A process that died takes part for ever: its counts must stay, or counters
would fall; its gauges must go, or a scrape shows the epoch of a worker that is gone; and without
merging, each restart would leave files that every later scrape reads.
"""

from __future__ import annotations

import fcntl
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import mmap_dict
from prometheus_client.multiprocess import mark_process_dead

#: The library's own file format; it has no types.
_Values: Any = mmap_dict.MmapedDict
_SUMMED = ("counter", "histogram")
_MERGED = "dead"
_LOCK = "merging.lock"


def multiprocess_folder() -> Path | None:
    """Where the host lets its processes share their metrics; None outside of it."""
    named = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(named) if named else None


def merge_dead(folder: Path) -> None:
    """Add the counts of every dead process to one file, and forget its live gauges.

    Called by each process that starts: most of them replace one that has died.
    """
    with _locked(folder, fcntl.LOCK_EX):
        for path in folder.glob("gauge_live*_*.db"):
            if _is_dead(path):
                mark_process_dead(_owner(path), str(folder))  # type: ignore[no-untyped-call]
        for kind in _SUMMED:
            dead = [path for path in folder.glob(f"{kind}_*.db") if _is_dead(path)]
            if dead:
                _merge(dead, folder / f"{kind}_{_MERGED}.db")


@contextmanager
def unmerged(folder: Path) -> Iterator[None]:
    """While this is open no file moves, so a scrape sees each count exactly once.

    May block for the milliseconds that a merge takes.
    """
    with _locked(folder, fcntl.LOCK_SH):
        yield


def _merge(dead: list[Path], merged: Path) -> None:
    sums: defaultdict[str, float] = defaultdict(float)
    for path in (merged, *dead):
        if path.exists():
            for key, value, _, _ in _Values.read_all_values_from_file(str(path)):
                sums[key] += value
    # The collector reads `*.db` only, so the half-written file is in nobody's sum.
    fresh = merged.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    values = _Values(str(fresh))
    for key, value in sums.items():
        values.write_value(key, value, 0.0)
    values.close()
    fresh.replace(merged)
    for path in dead:
        path.unlink()


def _owner(path: Path) -> str:
    return path.stem.rsplit("_", 1)[1]


def _is_dead(path: Path) -> bool:
    pid = _owner(path)
    return pid.isdecimal() and not Path("/proc", pid).exists()


@contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, kind)
        yield
