"""How long a million labels take from a file to the disk, and who works for it.

Bar: `audition labels import` of 1,000,000 NDJSON labels in at most 60 s, the command's own start
included, into a real gateway of one worker, whose Evaluator archives them meanwhile. The labels
name predictions that the gateway never made: it keeps them all the same, and says so. Memory
of the command is the greatest ever resident, and must not grow with the file.

`python -m loadtests.bench_labels [ROWS]`
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from loadtests.bench_gateway import ADMIN_KEY, gateway_target
from loadtests.bench_processes import Running, python, running
from loadtests.servers.tree_model import train

ROWS = 1_000_000
BAR_S, RSS_BAR_MB = 60.0, 150.0
_OTHER_ROWS = 100_000
_WRITER = "ab12cd34ef56"
_FIRST_AT = datetime(2013, 4, 1, tzinfo=UTC)

#: (prediction id, label, when it was observed)
_Label = tuple[str, int, datetime]


@dataclass(frozen=True, slots=True)
class _Spent:
    """What an import took: seconds, CPU in µs a row of the command and of the worker, memory."""

    wall_s: float
    command_us: float
    worker_us: float
    rss_mb: float


def figures(rows: int = ROWS) -> list[dict[str, object]]:
    """Import `rows` labels as NDJSON, the same again, and fewer in each other format."""
    with tempfile.TemporaryDirectory(prefix="audition-labels-") as name:
        folder = Path(name)
        train(folder / "models" / "trees" / "1" / "model.onnx", seed=1)
        target = gateway_target(
            "labels",
            endpoint="trees",
            models=folder / "models",
            state=folder / "state",
            bodies=folder,
        )
        with running(target, log=folder / "labels.log") as server:
            return _figures(server, folder, rows)


def _figures(server: Running, folder: Path, rows: int) -> list[dict[str, object]]:
    key = _label_key(server)
    file = folder / "labels.ndjson"
    _write_ndjson(file, _labels(rows))
    first = _imported(server, file, key, rows)
    again = _imported(server, file, key, rows)
    return [
        _figure(f"import of {rows:,} labels", first.wall_s, "s", bar=BAR_S * rows / ROWS),
        _figure("worker CPU per label", first.worker_us, "us"),
        _figure("command CPU per label", first.command_us, "us"),
        _figure("memory of the command", first.rss_mb, "MB", bar=RSS_BAR_MB),
        _figure(f"import of the same {rows:,} labels again", again.wall_s, "s"),
        *_others(server, folder, key, min(rows, _OTHER_ROWS)),
    ]


def _others(server: Running, folder: Path, key: str, rows: int) -> Iterator[dict[str, object]]:
    """A figure for each other format; labels of their own, so that none is a duplicate."""
    for place, (suffix, write) in enumerate(_WRITERS.items(), start=1):
        file = folder / f"labels.{suffix}"
        write(file, _labels(rows, later=timedelta(days=100 * place)))
        spent = _imported(server, file, key, rows)
        yield _figure(f"import of {rows:,} labels, {suffix}", spent.wall_s, "s")


def _labels(rows: int, *, later: timedelta = timedelta()) -> Iterator[_Label]:
    for number in range(rows):
        at = _FIRST_AT + later + timedelta(milliseconds=17 * number)
        at_ms = int(at.timestamp() * 1000)
        yield f"{at_ms:011x}{_WRITER}{number:09x}", number % 2, at


def _write_ndjson(file: Path, labels: Iterator[_Label]) -> None:
    with file.open("w") as lines:
        for name, label, at in labels:
            lines.write(
                f'{{"prediction_id":"{name}","label":{label},"observed_at":"{at.isoformat()}"}}\n'
            )


def _write_csv(file: Path, labels: Iterator[_Label]) -> None:
    with file.open("w") as lines:
        lines.write("prediction_id,label,observed_at\n")
        lines.writelines(f"{name},{label},{at.isoformat()}\n" for name, label, at in labels)


def _write_parquet(file: Path, labels: Iterator[_Label]) -> None:
    names = ("prediction_id", "label", "observed_at")
    columns = zip(*labels, strict=True)
    pq.write_table(pa.table(dict(zip(names, map(list, columns), strict=True))), file)


def _write_sagemaker(file: Path, labels: Iterator[_Label]) -> None:
    with file.open("w") as lines:
        for name, label, _ in labels:
            truth = f'"groundTruthData":{{"data":"{label}","encoding":"CSV"}}'
            lines.write(f'{{{truth},"eventMetadata":{{"eventId":"{name}"}},"eventVersion":"0"}}\n')


_WRITERS: dict[str, Callable[[Path, Iterator[_Label]], None]] = {
    "csv": _write_csv,
    "parquet": _write_parquet,
    "jsonl": _write_sagemaker,
}


def _label_key(server: Running) -> str:
    answer = httpx.post(
        f"http://127.0.0.1:{server.port}/v1/keys",
        headers={"authorization": f"Bearer {ADMIN_KEY}"},
        json={"name": "bench", "role": "label"},
    )
    return str(answer.raise_for_status().json()["token"])


def _imported(server: Running, file: Path, key: str, rows: int) -> _Spent:
    """Run the command on a file; raises SystemExit unless it takes every row."""
    environment = {
        **os.environ,
        "AUDITION_URL": f"http://127.0.0.1:{server.port}",
        "AUDITION_KEY": key,
    }
    command = python("-m", "gateway.cli", "labels", "import", str(file))
    worker_us, began = server.worker_cpu_us(), time.monotonic()
    quiet = ((os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),)
    pid = os.posix_spawn(sys.executable, command, environment, file_actions=quiet)
    # Not ru_maxrss: a new process begins with the greatest of the one that started it.
    rss_bytes = 0
    while not (ended := os.wait4(pid, os.WNOHANG))[0]:
        rss_bytes = max(rss_bytes, _peak_bytes(pid))
        time.sleep(0.02)
    wall_s = time.monotonic() - began
    _, status, used = ended
    if status:
        raise SystemExit(f"the import of {file.name} failed")
    return _Spent(
        wall_s,
        (used.ru_utime + used.ru_stime) * 1e6 / rows,
        (server.worker_cpu_us() - worker_us) / rows,
        rss_bytes / 1e6,
    )


def _peak_bytes(pid: int) -> int:
    """The greatest resident memory of a process so far; 0 once it has ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(found[0]) * 1024 if found else 0


def _figure(name: str, value: float, unit: str, *, bar: float | None = None) -> dict[str, object]:
    found: dict[str, object] = {"name": name, "value": round(value, 2), "unit": unit}
    return found if bar is None else found | {"bar": f"<= {bar:g}", "passed": value <= bar}


if __name__ == "__main__":
    for figure in figures(int(sys.argv[1]) if sys.argv[1:] else ROWS):
        print(figure)
