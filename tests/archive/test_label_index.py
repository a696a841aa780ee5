"""Which labels are known: shared by workers, and never in the way of anything else."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.archive.label_index import LabelIndex, prepare_index
from gateway.errors import StoreUnavailable


def _ids(count: int, *, start: int = 0) -> list[str]:
    return [f"{n:032x}" for n in range(start, start + count)]


def test_what_was_recorded_is_known(tmp_path: Path) -> None:
    """Also of more digests than one query may hold, in any order, and only what was asked."""
    index = LabelIndex(tmp_path / "labels.sqlite")
    assert index.known(_ids(3)) == set()
    index.record(_ids(800, start=1000)[::-1])
    index.record(_ids(10, start=1000))
    assert index.known(_ids(1400)) == set(_ids(400, start=1000))
    assert index.known([]) == set()


def test_workers_share_it_and_it_outlives_them(tmp_path: Path) -> None:
    """A second index over the file knows what the first recorded, while both are open."""
    path = tmp_path / "labels.sqlite"
    one, two = LabelIndex(path), LabelIndex(path)
    one.record(_ids(2))
    assert two.known(_ids(3)) == set(_ids(2))
    two.record(_ids(3))
    assert LabelIndex(path).known(_ids(5)) == set(_ids(3))


def test_it_serves_any_thread(tmp_path: Path) -> None:
    """Requests come in threads of their own, many at once."""
    index = LabelIndex(tmp_path / "labels.sqlite")
    parts = [_ids(200, start=n * 100) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(index.record, parts))
        known = list(pool.map(index.known, parts))
    assert [len(found) for found in known] == [200] * 8


def test_a_file_that_is_no_index_is_begun_anew(tmp_path: Path) -> None:
    """It only saves labels from being journalled twice, so nothing is lost with it."""
    path = tmp_path / "labels.sqlite"
    path.write_bytes(b"\xff" * 5000)
    prepare_index(path)
    index = LabelIndex(path)
    index.record(_ids(1))
    prepare_index(path)
    assert index.known(_ids(2)) == set(_ids(1)), "an index in use was thrown away"


def test_one_that_cannot_be_opened_says_so_when_it_is_asked(tmp_path: Path) -> None:
    """Not before: a worker starts, and predicts, without it; and it is opened once it can be."""
    folder = tmp_path / "gone"
    index = LabelIndex(folder / "labels.sqlite")
    with pytest.raises(StoreUnavailable, match="label index cannot be read"):
        index.known(_ids(1))
    with pytest.raises(StoreUnavailable, match="label index cannot be written"):
        index.record(_ids(1))
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        prepare_index(folder / "labels.sqlite")
    folder.mkdir()
    index.record(_ids(1))
    assert index.known(_ids(1)) == set(_ids(1))


def test_a_lock_that_is_held_too_long_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No exception of SQLite reaches a protocol."""
    path = tmp_path / "labels.sqlite"
    index = LabelIndex(path)
    index.record(_ids(1))
    index._opened().execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable, match="locked"):
        index.record(_ids(2))
    other.execute("ROLLBACK")
    other.close()
    index.record(_ids(2))
    assert index.known(_ids(2)) == set(_ids(2))


def test_a_worker_does_not_load_the_archives_libraries_for_it() -> None:
    """DuckDB and Arrow are the Evaluator's: 130 MB that no worker shall carry."""
    program = (
        "import sys, gateway.archive.label_index;"
        "sys.exit(any(name in sys.modules for name in ('duckdb', 'pyarrow')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
