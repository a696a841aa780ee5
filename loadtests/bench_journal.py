"""What the journal costs a request: CPU per record, encoded, checked and handed to the kernel.

`python -m loadtests.bench_journal`

The process does nothing else, so its whole CPU counts, that of the thread which calls fdatasync
included. `written` is the one system call of each record by itself, which no encoding can save.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gateway.core.records import PredictionRecord, TensorRecord
from gateway.journal.writer import JournalWriter

RECORD_BAR_US = 3.0
_RECORDS, _PASSES = 20_000, 7


def figures() -> list[dict[str, object]]:
    """CPU a record of one row of eight numbers and two outputs; the best of several passes."""
    with tempfile.TemporaryDirectory(prefix="audition-journal-") as name:
        journal = JournalWriter(Path(name) / "journal", writer_id="0123456789ab")
        record = _record()
        whole_us = _least_us(lambda: journal.append(record))
        size_bytes = journal.offset // journal.sequence
        journal.close()
        written_us = _written_us(Path(name) / "plain", bytes(size_bytes))
    return [
        {
            "name": "journal: CPU per record",
            "value": whole_us,
            "unit": "us",
            "n": _RECORDS * _PASSES,
            "bar": f"<= {RECORD_BAR_US}",
            "passed": whole_us <= RECORD_BAR_US,
            "written_us": round(written_us, 2),
            "bytes": size_bytes,
        }
    ]


def _record() -> PredictionRecord:
    sent = TensorRecord("x", "FP32", (1, 8), np.linspace(-1, 1, 8, dtype="<f4").tobytes())
    answered = TensorRecord("probabilities", "FP32", (1, 2), bytes(8))
    return PredictionRecord(
        0, 1, "0" * 32, 1_700_000_000_000_000, None, "trees", 3, "1", "d" * 64, "champion", "",
        "ok", "", 1, None, 10_000, None, None, None, "", "0" * 32, "0" * 16, "", False, 60, 0,  # noqa: FBT003 - by place
        [sent], [answered],
    )  # fmt: skip


def _written_us(path: Path, frame: bytes) -> float:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return _least_us(lambda: os.write(descriptor, frame))
    finally:
        os.close(descriptor)


def _least_us(work: Callable[[], object]) -> float:
    return min(_spent_us(work) for _ in range(_PASSES))


def _spent_us(work: Callable[[], object]) -> float:
    begun_ns = time.process_time_ns()
    for _ in range(_RECORDS):
        work()
    return (time.process_time_ns() - begun_ns) / _RECORDS / 1e3


if __name__ == "__main__":
    for figure in figures():
        print(json.dumps(figure))
