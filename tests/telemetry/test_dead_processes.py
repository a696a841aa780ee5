"""Counts outlive their processes, and their files do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from gateway.telemetry.dead_processes import merge_dead, unmerged

_COUNTING = """
import sys
from prometheus_client import Counter, Gauge, Histogram
Counter("seen", "Seen", ("who",)).labels(sys.argv[1]).inc(float(sys.argv[2]))
spent = Histogram("spent", "Spent", buckets=(1.0, 2.0))
spent.observe(0.5)
spent.observe(1.5)
Gauge("epoch", "Epoch", multiprocess_mode="livemin").set(float(sys.argv[2]))
print("counted", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for the metrics of several processes."""
    (tmp_path / "metrics").mkdir()
    return tmp_path / "metrics"


def _counting(folder: Path, who: str, seen: int) -> subprocess.Popen[str]:
    """A process that has counted and lives on."""
    process = subprocess.Popen(
        [sys.executable, "-c", _COUNTING, who, str(seen)],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "counted\n"
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def _scrape(folder: Path) -> dict[str, float]:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    lines = generate_latest(registry).decode().splitlines()
    samples = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in samples}


def test_no_count_is_lost_or_doubled_when_processes_die(folder: Path) -> None:
    """Over several rounds of deaths; the living keep files of their own."""
    living = _counting(folder, "anna", 100)
    for round_, seen in enumerate((1, 20), start=1):
        for who in ("anna", "bert"):
            _end(_counting(folder, who, seen))
        merge_dead(folder)
        assert len(list(folder.glob("counter_*.db"))) == 2  # the living one's and the merged
        assert len(list(folder.glob("histogram_*.db"))) == 2
        samples = _scrape(folder)
        assert samples['spent_bucket{le="1.0"}'] == 1 + 2 * round_
        assert samples["spent_count"] == 2 + 4 * round_
        assert samples["spent_sum"] == 2.0 * (1 + 2 * round_)
    assert samples['seen_total{who="anna"}'] == 121
    assert samples['seen_total{who="bert"}'] == 21
    _end(living)


def test_a_dead_worker_has_no_epoch(folder: Path) -> None:
    """The least epoch that is served is that of the living."""
    living = _counting(folder, "anna", 7)
    _end(_counting(folder, "bert", 3))
    assert _scrape(folder)["epoch"] == 3
    merge_dead(folder)
    assert _scrape(folder)["epoch"] == 7
    _end(living)


def test_a_scrape_holds_off_the_merge(folder: Path) -> None:
    """Between reading two files nothing moves from the one to the other."""
    _end(_counting(folder, "anna", 5))
    merging = [sys.executable, "-c", "import sys; from pathlib import Path; "]
    merging[-1] += "from gateway.telemetry.dead_processes import merge_dead; "
    merging[-1] += "print('asked', flush=True); merge_dead(Path(sys.argv[1]))"
    with unmerged(folder):
        process = subprocess.Popen([*merging, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert not (folder / "counter_dead.db").exists()
    process.communicate(timeout=60)
    assert (folder / "counter_dead.db").exists()
    assert _scrape(folder)['seen_total{who="anna"}'] == 5


def test_nothing_to_merge_is_no_error(folder: Path) -> None:
    """The first worker of all starts in an empty folder."""
    merge_dead(folder)
    assert not list(folder.glob("*.db"))
