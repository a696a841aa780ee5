"""Small files become few large ones, and nobody can tell but by their number."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.archive import compaction, manifest
from gateway.archive.compaction import next_merge
from gateway.archive.manifest import ArchiveFile
from gateway.archive.objects import Folder
from gateway.archive.tables import ArchiveReader
from gateway.archive.writer import ArchiveWriter
from tests.archive.records import label, labels, prediction, shadow, tensor

DATASETS = ("predictions", "shadows", "labels")


def _file(number: int, rows: int, **changed: Any) -> ArchiveFile:
    facts: dict[str, Any] = {
        "dataset": "predictions", "endpoint": "flights", "path": f"{number}.parquet",
        "rows": rows, "prediction_ids": ("a", "b"), "sources": {},
    }  # fmt: skip
    return ArchiveFile(**{**facts, **changed})


def _rows(folder: Path) -> list[str]:
    """Every row of every dataset that the manifest lists, in one order."""
    found = []
    for file in manifest.load(Folder(folder)).files:
        for row in pq.read_table(folder / file.path).to_pylist():
            present = {name: value for name, value in row.items() if value is not None}
            found.append(f"{file.dataset}/{file.endpoint}: {sorted(present.items())}")
    return sorted(found)


def _compact_all(writer: ArchiveWriter, *, at_least: int = 2) -> int:
    merges = 0
    while writer.compact(at_least=at_least, at_us=5):
        merges += 1
    return merges


_FRAME = st.tuples(
    st.sampled_from(["w1", "w2"]),
    st.sampled_from(["prediction", "shadow", "labels"]),
    st.sampled_from(["flights", "trains"]),
    st.integers(0, 30),  # name
    st.sampled_from([np.array([0.5]), np.array([[0.25, 0.75]]), np.array([b"yes"], object), None]),
    st.booleans(),  # flush after it
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_FRAME, max_size=40))
def test_compaction_changes_no_row(drawn: list[tuple[str, str, str, int, Any, bool]]) -> None:
    """Every row is there as it was, and the manifest's ranges are those of the rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = ArchiveWriter(folder)
        for end, (journal, kind, endpoint, number, output, is_last) in enumerate(drawn, start=1):
            one = f"{number:032x}"
            outputs = [] if output is None else [tensor("p", output)]
            records = {
                "prediction": prediction(one, endpoint=endpoint, outputs=outputs, epoch=number),
                "shadow": shadow(one, endpoint=endpoint, outputs=outputs),
                "labels": labels(label(one, 1.0)),
            }
            writer.append(journal, end, records[kind])
            if is_last:
                writer.flush()
        writer.flush()
        before, covered = _rows(folder), writer.covered
        _compact_all(writer)
        assert _rows(folder) == before
        assert writer.covered == covered
        for file in manifest.load(Folder(folder)).files:
            _require_described(folder, file)


def _require_described(folder: Path, file: ArchiveFile) -> None:
    rows = pq.read_table(folder / file.path).to_pylist()
    ids = [row["prediction_id"] for row in rows]
    assert (file.rows, file.prediction_ids) == (len(rows), (min(ids), max(ids)))
    for writer_id, span in file.sources.items():
        ends = [row["source_end"] for row in rows if row["source_writer"] == writer_id]
        assert span == (min(ends), max(ends))
    if file.dataset == "predictions":
        epochs = [row["epoch"] for row in rows]
        assert file.epochs == {epoch: epochs.count(epoch) for epoch in epochs}
    assert file.size_bytes == (folder / file.path).stat().st_size


def test_a_reader_of_the_manifest_before_reads_on(tmp_path: Path) -> None:
    """Merged files stay on the disk until their time of grace is over, also past a restart."""
    writer = ArchiveWriter(tmp_path)
    for end in range(1, 10):
        writer.append("w", end, prediction(f"{end:032x}"))
        writer.flush()
    with ArchiveReader(tmp_path) as reader:
        query = f"SELECT count(*) AS rows FROM {reader.scan('predictions', 'flights')}"
        assert _compact_all(writer)
        writer = ArchiveWriter(tmp_path)
        assert not writer.remove_retired(before_us=5)
        assert reader.table(query)["rows"].to_pylist() == [9]
        assert writer.remove_retired(before_us=6)
        assert not writer.manifest.retired
        reader.refresh()
        query = f"SELECT count(*) AS rows FROM {reader.scan('predictions', 'flights')}"
        assert reader.table(query)["rows"].to_pylist() == [9]
    assert len(list(tmp_path.rglob("*.parquet"))) == len(writer.manifest.files)


def test_files_of_one_size_are_merged_oldest_first() -> None:
    """Eight neighbours at a time, so that a row is written again but a few times."""
    files = [_file(number, 10) for number in range(20)]
    assert [file.path for file in next_merge(files)] == [f"{n}.parquet" for n in range(8)]
    assert next_merge(files[:7]) == ()
    assert next_merge([_file(n, 8**n) for n in range(8)]) == ()


def test_a_merge_is_bounded() -> None:
    """Full files are left alone, in rows and in bytes, and no merge makes too large a one."""
    full = [_file(number, compaction.FULL_ROWS) for number in range(20)]
    wide = [_file(number, 600, size_bytes=compaction.FULL_BYTES) for number in range(20)]
    assert next_merge(full) == next_merge(wide) == ()
    large = [_file(number, compaction.FULL_ROWS - 1) for number in range(20)]
    assert sum(file.rows for file in next_merge(large)) <= compaction.MOST_ROWS
    heavy = [_file(n, 600, size_bytes=compaction.FULL_BYTES // 3) for n in range(20)]
    assert sum(file.size_bytes for file in next_merge(heavy)) <= compaction.MOST_BYTES


def test_files_that_disagree_about_a_column_stay_apart() -> None:
    """A column has one type in a file."""
    kinds = [{"outputs.p": "DOUBLE"}, {"outputs.p": "DOUBLE[]"}, {}]
    files = [_file(number, 10, tensors=kinds[number % 3]) for number in range(24)]
    merged = next_merge(files)
    assert len(merged) == 8
    assert {str(file.tensors) for file in merged} == {str(kinds[0]), str(kinds[2])}


def test_the_manifest_stays_small() -> None:
    """A flush each second with 500 rows: at 10,000,000 rows there are a hundred-odd files."""
    files: list[ArchiveFile] = []
    rewritten = most = 0
    for number in range(20_000):
        files.append(_file(number, 500))
        while merged := next_merge(files):
            rows = sum(file.rows for file in merged)
            gone = {file.path for file in merged}
            files = [file for file in files if file.path not in gone]
            files.append(_file(number, rows, path=f"{merged[0].path}-{rows}"))
            rewritten += rows
        most = max(most, len(files))
    assert sum(file.rows for file in files) == 10_000_000
    assert most <= 130
    assert rewritten <= 4 * 10_000_000


def test_a_kill_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Killed again and again, the archive holds each frame up to `covered` exactly once."""
    moments, covered = random.Random(7), 0
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-m", "tests.archive.compacting", str(tmp_path)])
        _wait_past(tmp_path, covered)
        # Not a wait for an event: a kill at a random moment of the work.
        time.sleep(moments.uniform(0, 0.1))
        child.kill()
        child.wait()
        covered = _require_whole(tmp_path)
    reopened = ArchiveWriter(tmp_path)
    reopened.remove_retired(before_us=2**62)
    listed = {tmp_path / file.path for file in reopened.manifest.files}
    assert set(tmp_path.rglob("*.parquet")) == listed
    assert _require_whole(tmp_path) == covered >= 30


def _wait_past(folder: Path, covered: int) -> None:
    deadline = time.monotonic() + 60
    while manifest.load(Folder(folder)).covered.get("w", 0) <= covered + 5:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _require_whole(folder: Path) -> int:
    """Everything up to `covered` is there once; returns how many frames that are."""
    found = manifest.load(Folder(folder))
    (covered,) = set(found.covered.values())
    names = [f"{number:032x}" for number in range(1, covered + 1)]
    with ArchiveReader(folder) as reader:
        for dataset in DATASETS:
            endpoint = "" if dataset == "labels" else "flights"
            scan = reader.scan(dataset, endpoint)  # type: ignore[arg-type]
            query = f"SELECT prediction_id FROM {scan} WHERE row = 0 ORDER BY prediction_id"
            assert reader.table(query)["prediction_id"].to_pylist() == names
    return covered
