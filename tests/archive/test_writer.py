"""The archive's writer, seen through the files that it leaves."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from gateway.archive import manifest
from gateway.archive.objects import Folder
from gateway.archive.writer import ArchiveWriter
from gateway.errors import CorruptArchive
from tests.archive.records import label, labels, prediction, shadow, tensor


def _rows(folder: Path, dataset: str) -> list[dict[str, object]]:
    """All rows of a dataset, in the manifest's order."""
    files = [file for file in manifest.load(Folder(folder)).files if file.dataset == dataset]
    return [row for file in files for row in pq.read_table(folder / file.path).to_pylist()]


def test_a_batch_is_one_row_per_item(tmp_path: Path) -> None:
    """Single elements are typed scalars, several are lists, and every item has its own."""
    writer = ArchiveWriter(tmp_path)
    record = prediction(
        "p1",
        rows=2,
        inputs=[
            tensor("delay", np.array([[1.5], [2.5]], np.float32)),
            tensor("carrier", np.array([b"UA", "é".encode()], object)),
            tensor("raw", np.array([b"\xff", b"a"], object)),
            tensor("late", np.array([True, False])),
            tensor("half", np.array([0.5, 1.5], np.float16)),
        ],
        outputs=[tensor("p", np.array([[0.25, 0.75], [0.5, 0.5]]))],
        attributes={"group": "a"},
        entity="2013-04-01",
    )
    writer.append("w1", 10, record)
    assert writer.flush()
    first, second = _rows(tmp_path, "predictions")
    assert [first["row"], second["row"]] == [0, 1]
    assert [first["inputs.delay"], second["inputs.delay"]] == [1.5, 2.5]
    assert [first["inputs.carrier"], second["inputs.carrier"]] == ["UA", "é"]
    assert [first["inputs.raw"], second["inputs.raw"]] == [b"\xff", b"a"]
    assert [first["inputs.late"], second["inputs.late"]] == [True, False]
    assert [first["inputs.half"], second["inputs.half"]] == [0.5, 1.5]
    assert [first["outputs.p"], second["outputs.p"]] == [[0.25, 0.75], [0.5, 0.5]]
    assert first["attributes"] == '{"group":"a"}'
    assert (first["source_writer"], first["source_end"]) == ("w1", 10)


@pytest.mark.parametrize("width", [1, 2])
def test_an_empty_batch_is_no_row_and_is_covered(tmp_path: Path, width: int) -> None:
    """Among others and alone: nothing of it is kept, and nothing waits for it."""
    writer = ArchiveWriter(tmp_path)
    for end, rows in enumerate((2, 0, 1), start=1):
        outputs = [tensor("p", np.zeros((rows, width), np.float32))]
        writer.append("w1", end, prediction(f"p{end}", rows=rows, outputs=outputs))
    writer.flush()
    writer.append("w1", 4, prediction("p4", rows=0, outputs=[]))
    writer.flush()
    found = [(row["prediction_id"], row["row"]) for row in _rows(tmp_path, "predictions")]
    assert sorted(found) == [("p1", 0), ("p1", 1), ("p3", 0)]
    assert manifest.load(Folder(tmp_path)).covered["w1"] == 4


def test_lists_of_different_lengths_keep_their_items(tmp_path: Path) -> None:
    """A dynamic dimension gives lists of different lengths; an unbatched tensor is one list."""
    writer = ArchiveWriter(tmp_path)
    tokens = (np.arange(6).reshape(2, 3), np.arange(4).reshape(1, 4), np.arange(5))
    for end, (rows, array) in enumerate(zip((2, 1, 1), tokens, strict=True), start=1):
        writer.append("w1", end, prediction(f"p{end}", rows=rows, inputs=[tensor("t", array)]))
    writer.flush()
    found = [row["inputs.t"] for row in _rows(tmp_path, "predictions")]
    assert found == [[0, 1, 2], [3, 4, 5], [0, 1, 2, 3], [0, 1, 2, 3, 4]]


def test_an_output_of_the_whole_request_is_with_every_item(tmp_path: Path) -> None:
    """A tensor whose first dimension does not count rows belongs to each of them."""
    writer = ArchiveWriter(tmp_path)
    outputs = [tensor("classes", np.array([7, 8, 9])), tensor("p", np.array([0.1, 0.2]))]
    writer.append("w1", 1, prediction("p1", rows=2, outputs=outputs))
    writer.flush()
    assert [row["outputs.classes"] for row in _rows(tmp_path, "predictions")] == [[7, 8, 9]] * 2


def test_an_undecodable_request_is_one_row_without_inputs(tmp_path: Path) -> None:
    """What could not be read is still in the books, beside what could."""
    writer = ArchiveWriter(tmp_path)
    writer.append("w1", 1, prediction("p1", inputs=[tensor("x", np.array([1.0]))]))
    bad = prediction("p2", status="undecodable", exclusion="undecodable", error="data: not JSON")
    writer.append("w1", 2, bad)
    writer.flush()
    rows = _rows(tmp_path, "predictions")
    assert [(row["status"], row["inputs.x"]) for row in rows] == [
        ("ok", 1.0),
        ("undecodable", None),
    ]
    assert len(manifest.load(Folder(tmp_path)).files) == 1


def test_one_name_with_two_types_goes_to_two_files(tmp_path: Path) -> None:
    """Versions may give one output name different types; neither is bent."""
    writer = ArchiveWriter(tmp_path)
    writer.append("s", 1, shadow("p1", outputs=[tensor("p", np.array([0.25]))]))
    writer.append(
        "s", 2, shadow("p1", version="3", outputs=[tensor("p", np.array([[0.25, 0.75]]))])
    )
    writer.flush()
    assert [row["outputs.p"] for row in _rows(tmp_path, "shadows")] == [0.25, [0.25, 0.75]]


def test_labels_are_numbers_or_texts(tmp_path: Path) -> None:
    """A label has exactly one of the two columns."""
    writer = ArchiveWriter(tmp_path)
    writer.append("w1", 1, labels(label("p1", 1.0, observed_at_us=5), label("p2", "late")))
    writer.flush()
    found = [(row["label"], row["label_text"]) for row in _rows(tmp_path, "labels")]
    assert found == [(1.0, None), (None, "late")]


def test_the_manifest_describes_each_file(tmp_path: Path) -> None:
    """Ranges and counts are those of the rows, so that readers may skip files by them."""
    writer = ArchiveWriter(tmp_path)
    for end, at_us in ((5, 30), (9, 10)):
        writer.append("w1", end, prediction(f"p{end}", accepted_at_us=at_us, rows=2))
    writer.append("w2", 4, prediction("p4", accepted_at_us=20, occurred_at_us=7))
    writer.flush()
    (file,) = manifest.load(Folder(tmp_path)).files
    assert (file.rows, file.prediction_ids) == (5, ("p4", "p9"))
    assert (file.accepted_at_us, file.occurred_at_us) == ((10, 30), (7, 7))
    assert file.sources == {"w1": (5, 9), "w2": (4, 4)}
    assert writer.covered == {"w1": 9, "w2": 4}


def test_nothing_to_flush_changes_nothing(tmp_path: Path) -> None:
    """An idle flush says so and writes no manifest."""
    writer = ArchiveWriter(tmp_path)
    assert not writer.flush()
    assert not (tmp_path / manifest.NAME).exists()


def test_a_frame_is_archived_once(tmp_path: Path) -> None:
    """After a crash the tail may hand over again what is there already."""
    writer = ArchiveWriter(tmp_path)
    writer.append("w1", 10, prediction("p1"))
    writer.append("w1", 10, prediction("p1"))
    writer.flush()
    again = ArchiveWriter(tmp_path)
    again.append("w1", 10, prediction("p1"))
    again.append("w1", 20, prediction("p2"))
    again.flush()
    assert [row["prediction_id"] for row in _rows(tmp_path, "predictions")] == ["p1", "p2"]


@pytest.mark.parametrize("crash_at", ["first file", "second file", "manifest"])
def test_a_crash_in_a_flush_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: str
) -> None:
    """Whatever was written before the manifest was swapped is unseen and later removed."""
    writer = ArchiveWriter(tmp_path)
    writer.append("w1", 1, prediction("p1"))
    writer.flush()
    before = manifest.load(Folder(tmp_path))
    writer.append("w1", 2, prediction("p2"))
    writer.append("w1", 3, labels(label("p1", 1.0)))
    renames = {"first file": 1, "second file": 2, "manifest": 3}[crash_at]
    _fail_at_rename(monkeypatch, renames)
    with pytest.raises(OSError, match="no space"):
        writer.flush()
    monkeypatch.undo()
    assert manifest.load(Folder(tmp_path)) == before
    reopened = ArchiveWriter(tmp_path)
    assert reopened.covered == {"w1": 1}
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert not list(tmp_path.rglob(".new-*"))


def test_pages_of_a_dead_reader_are_removed(tmp_path: Path) -> None:
    """Those of a living one are left alone."""
    dead, living = tmp_path / ".spill-999999999-a", tmp_path / f".spill-{os.getpid()}-a"
    for folder in (dead, living):
        folder.mkdir()
        (folder / "page.tmp").touch()
    ArchiveWriter(tmp_path)
    assert not dead.exists()
    assert living.exists()


def test_a_flush_that_failed_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk loses no record and doubles none."""
    writer = ArchiveWriter(tmp_path)
    writer.append("w1", 1, prediction("p1"))
    _fail_at_rename(monkeypatch, 2)
    with pytest.raises(OSError, match="no space"):
        writer.flush()
    monkeypatch.undo()
    assert writer.flush()
    assert [row["prediction_id"] for row in _rows(tmp_path, "predictions")] == ["p1"]


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A damaged manifest stops the archive; it is never taken for an empty one."""
    (tmp_path / manifest.NAME).write_text('{"sequence": "x"}')
    with pytest.raises(CorruptArchive, match=r"manifest\.json"):
        ArchiveWriter(tmp_path)


def _fail_at_rename(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Make the given rename fail, as a full disk would."""
    rename, calls = Path.rename, []

    def failing(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == number:
            raise OSError("no space left")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
