"""What an archive of many predictions costs: to look at, to judge, to export, to keep.

`python -m loadtests.bench_archive [ROWS]`

Bars, at 10,000,000 predictions with a shadow run and a label each: a status in half a second,
the next look of the judge in two, an export whose memory does not grow with the archive.
Disk: about 100 bytes a prediction, so 1 GB for ten million while it runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from gateway.archive import manifest as manifests
from gateway.archive.objects import Folder
from gateway.archive.tables import ArchiveReader
from gateway.archive.writer import ArchiveWriter
from gateway.core.records import LabelRow, LabelsRecord, PredictionRecord, ShadowRecord
from gateway.core.rollout import Challenge, first_rollout, step
from gateway.core.routes import Rollout
from gateway.judge.archive_judge import ArchiveJudge
from gateway.judge.evaluation import evaluate
from gateway.judge.status import endpoint_evidence, endpoint_status
from gateway.ports import Checkpoint, EvaluatorReport, Registration
from gateway.stores.sql import make_store
from loadtests.bench_archive_data import (
    BEGAN_US,
    ENDPOINT,
    EVERY_US,
    MATURITY_S,
    build,
    registration,
    rollout,
)

ROWS = 1_000_000
STATUS_BAR_S = 0.5
EVIDENCE_BAR_S = 2.0
_LOOKS = 5
#: What arrives between two looks.
_NEW_ROWS = 1000


def figures(rows: int = ROWS) -> list[dict[str, object]]:
    """All figures at `rows` predictions; the archive is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="audition-archive-") as name:
        folder = Path(name)
        built = build(folder / "archive", rows)
        return [*_sizes(folder, built, rows), *_looks(folder, rows), *_export(folder, rows)]


def main() -> None:
    """Print the figures."""
    for figure in figures(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS):
        print(msgspec.json.encode(figure).decode())


def _sizes(folder: Path, built: manifests.Manifest, rows: int) -> list[dict[str, object]]:
    size_bytes = sum(file.size_bytes for file in built.files)
    by_dataset = {
        dataset: round(sum(f.size_bytes for f in built.files if f.dataset == dataset) / rows, 1)
        for dataset in ("predictions", "shadows", "labels")
    }
    load_s = _median_s(lambda: manifests.load(Folder(folder / "archive")))
    return [
        _figure("disk per prediction with shadow run and label", size_bytes / rows, "B",
                n=rows, **by_dataset),
        _figure("loading the manifest", load_s, "s", n=len(built.files)),
    ]  # fmt: skip


def _looks(folder: Path, rows: int) -> list[dict[str, object]]:
    """A state folder whose Evaluator has just started, then a few ordinary looks."""
    opened = registration()
    store = make_store(f"sqlite:///{folder / 'control.sqlite'}")
    now = _served(store, opened)
    judge = ArchiveJudge(folder / "archive", store)
    began, longest_s = time.perf_counter(), 0.0
    more = True
    while more:
        piece = time.perf_counter()
        more = judge.keep_books([opened], {ENDPOINT: now})
        longest_s = max(longest_s, time.perf_counter() - piece)
    catch_up_s = time.perf_counter() - began
    checkpoint = _judge_all(folder, store, opened, now, rows)
    writer = ArchiveWriter(folder / "archive")
    looks, books = [], []
    for look in range(_LOOKS):
        _arrive(writer, rows + look * _NEW_ROWS)
        piece = time.perf_counter()
        judge.keep_books([opened], {ENDPOINT: now})
        books.append(time.perf_counter() - piece)
        piece = time.perf_counter()
        with_one_more = judge.judge(opened, _cut_us(rows) + look * 1_000_000, writer.covered)
        looks.append(time.perf_counter() - piece)
        if with_one_more is not None:
            checkpoint = with_one_more
            store.add_checkpoint(checkpoint)
    _report(store, judge)
    status_s = _median_s(lambda: endpoint_status(store, ENDPOINT, now_us=0, live=set()))
    evidence_s = _median_s(lambda: endpoint_evidence(store, ENDPOINT))
    return [
        _figure("books: all of it, once", catch_up_s, "s", n=rows, longest_piece_s=longest_s),
        _figure("books: what is new", median(books), "s", n=_NEW_ROWS),
        _barred("status document", status_s, STATUS_BAR_S, n=rows),
        _barred("evidence document", evidence_s, EVIDENCE_BAR_S, n=rows),
        _barred("the next look of the judge", median(looks), EVIDENCE_BAR_S, n=rows),
        _figure("memory of the judging process", _peak_mb(os.getpid()), "MB", n=rows),
    ]


def _served(store: Any, opened: Registration) -> Rollout:
    """The endpoint in the store, with the registration open."""
    shape = rollout(opened)
    first = first_rollout(
        ENDPOINT, champion=shape.versions["1"], rules=shape.rules, salt=shape.salt
    )
    known = msgspec.structs.replace(first, versions=shape.versions)
    store.create(known, actor="bench", reason="", at_us=0)
    command = Challenge(
        version="2", registration=1, registration_digest=opened.digest, probability_bp=10_000
    )
    challenged = step(known, command)
    store.commit(
        challenged, command=command, actor="bench", reason="", at_us=BEGAN_US, opened=[opened]
    )
    return challenged


def _judge_all(
    folder: Path, store: Any, opened: Registration, now: Rollout, rows: int
) -> Checkpoint:
    """Looks as a gateway takes them as time goes on: none of them is over all rows."""
    with ArchiveReader(folder / "archive") as reader:
        checkpoint: Checkpoint | None = None
        looks = max(2, rows // 250_000)
        for look in range(1, looks + 1):
            cut_us = BEGAN_US + (_cut_us(rows) - BEGAN_US) * look // looks
            checkpoint = evaluate(
                reader, opened, {2: now}, checkpoint,
                cut_us=cut_us, covered=reader.manifest.covered, at_us=0,
            )  # fmt: skip
            store.add_checkpoint(checkpoint)
    assert checkpoint is not None
    return checkpoint


def _cut_us(rows: int) -> int:
    return BEGAN_US + rows * EVERY_US


def _arrive(writer: ArchiveWriter, first: int) -> None:
    """New rows, as a flush leaves them."""
    for number in range(first, first + _NEW_ROWS):
        at_us = BEGAN_US + number * EVERY_US
        one = f"{at_us // 1000:011x}{'c' * 12}{number:09x}"
        end = number * 480
        writer.append("c" * 12, 2 * end + 1, _prediction(one, at_us))
        writer.append("d" * 12, end + 1, _shadow(one, at_us))
        row = LabelRow(one[::-1], one, 0, 1.0, None, None)
        writer.append("c" * 12, 2 * end + 2, LabelsRecord(0, at_us, "api", "key", [row]))
    writer.flush()


def _prediction(one: str, at_us: int) -> PredictionRecord:
    return PredictionRecord(
        0, 0, one, at_us, None, ENDPOINT, 2, "1", "1" * 64, "champion", "", "ok", "", 1, None,
        10_000, None, None, None, "", one, "s", "", False, 300, 0, [], [],  # noqa: FBT003
    )  # fmt: skip


def _shadow(one: str, at_us: int) -> ShadowRecord:
    return ShadowRecord(
        0, "c" * 12, 1, one, ENDPOINT, 1, "2", "2" * 64, "ok", "", 1, 10_000, at_us, 300, 8, [],
    )  # fmt: skip


def _report(store: Any, judge: ArchiveJudge) -> None:
    accounts = judge.accounts
    said = {
        "books": msgspec.to_builtins(accounts.books.get((ENDPOINT, 1))),
        "label_free": msgspec.to_builtins(accounts.label_free.get((ENDPOINT, 1))),
    }
    body = {"endpoints": {ENDPOINT: {"challengers": {"2": said}}}}
    store.report_evaluator(
        EvaluatorReport(at_us=0, pid=os.getpid(), body=msgspec.Raw(msgspec.json.encode(body)))
    )


def _export(folder: Path, rows: int) -> list[dict[str, object]]:
    found = []
    for form in ("parquet", "ndjson"):
        began = time.perf_counter()
        peak_mb = _exported(folder / "archive", form)
        taken_s = time.perf_counter() - began
        found.append(_figure(f"memory of an export as {form}", peak_mb, "MB", n=rows,
                             rows_per_s=round(rows / taken_s)))  # fmt: skip
    return found


def _exported(archive: Path, form: str) -> float:
    """The peak memory of an export into nothing."""
    arguments = [str(archive), "", ENDPOINT, form, str(MATURITY_S * 1_000_000), "accepted"]
    peak_mb = 0.0
    with Path("/dev/null").open("wb") as nowhere:
        child = subprocess.Popen(
            [sys.executable, "-m", "gateway.archive.export", *arguments], stdout=nowhere
        )
        while child.poll() is None:
            peak_mb = max(peak_mb, _peak_mb(child.pid))
            time.sleep(0.05)
    if child.returncode:
        raise SystemExit(f"the export as {form} failed")
    return peak_mb


def _peak_mb(process_id: int) -> float:
    """The most memory a process ever held; 0 when it has ended."""
    status = Path(f"/proc/{process_id}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def _median_s(timed: Callable[[], object]) -> float:
    taken = []
    for _ in range(_LOOKS):
        began = time.perf_counter()
        timed()
        taken.append(time.perf_counter() - began)
    return median(taken)


def _barred(name: str, value: float, bar: float, **more: object) -> dict[str, object]:
    return {**_figure(name, value, "s", **more), "bar": f"<= {bar}", "passed": value <= bar}


def _figure(name: str, value: float, unit: str, **more: object) -> dict[str, object]:
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in more.items()}
    return {"name": f"archive: {name}", "value": float(f"{value:.4g}"), "unit": unit, **rounded}


if __name__ == "__main__":
    main()
