"""An archive is the same in a folder and in a store of objects that can rename nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
import pytest

from gateway.archive import manifest
from gateway.archive.export import export
from gateway.archive.objects import Folder, Objects
from gateway.archive.tables import ArchiveReader
from gateway.archive.writer import ArchiveWriter
from gateway.judge.evaluation import evaluate
from tests.archive.records import label, labels, prediction, shadow, tensor
from tests.archive.scenes import S, registration, rollouts
from tests.archive.whole_objects import bucket

#: Opens the objects of one test, as another process would.
Open = Callable[[], Objects]


@pytest.fixture(params=["folder", "bucket"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """An empty place."""
    if request.param == "folder":
        return lambda: Folder(tmp_path / "place")
    return lambda: bucket(tmp_path / "place")


class Failing:
    """Objects that refuse to put some paths, as a place that goes away does."""

    def __init__(self, objects: Objects, *, refuses: str) -> None:
        self._objects = objects
        self._refuses = refuses

    def put(self, path: str, write: Callable[[BinaryIO], object]) -> int:
        """Put, or raise."""
        if path.endswith(self._refuses):
            raise OSError("gone away")
        return self._objects.put(path, write)

    def read(self, path: str) -> bytes:
        """As it is."""
        return self._objects.read(path)

    def rows(self, path: str) -> pa.Table:
        """As it is."""
        return self._objects.rows(path)

    def delete(self, path: str) -> None:
        """As it is."""
        self._objects.delete(path)

    def paths(self) -> Iterator[str]:
        """As it is."""
        return self._objects.paths()

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """As it is."""
        self._objects.attach(connection)

    def name(self, path: str) -> str:
        """As it is."""
        return self._objects.name(path)


def _put(objects: Objects, path: str, content: bytes) -> int:
    return objects.put(path, lambda file: file.write(content))


def _fill(writer: ArchiveWriter, numbers: range) -> None:
    """A flush for each prediction with its shadow run and label."""
    for number in numbers:
        one = f"{number:032x}"
        outputs = [tensor("p", [0.25])]
        writer.append("w", 2 * number, prediction(one, accepted_at_us=number * S, outputs=outputs))
        writer.append("s", number, shadow(one, outputs=[tensor("p", [0.75])]))
        row = labels(label(one, 1.0), received_at_us=number * S)
        writer.append("w", 2 * number + 1, row)
        writer.flush()


def _ids(reader: ArchiveReader) -> list[int]:
    scan = reader.scan("predictions", "flights")
    found = reader.table(f"SELECT prediction_id AS p FROM {scan} ORDER BY p")
    return [int(one, 16) for one in found["p"].to_pylist()]


def test_an_object_is_replaced_as_a_whole(opened: Open) -> None:
    """And what breaks off while it is made changes nothing for anybody."""
    objects = opened()
    assert _put(objects, "manifest.json", b"one") == 3
    assert _put(objects, "manifest.json", b"other") == 5

    def breaks_off(file: BinaryIO) -> None:
        file.write(b"half")
        raise ValueError("broke off")

    with pytest.raises(ValueError, match="broke off"):
        objects.put("manifest.json", breaks_off)
    assert opened().read("manifest.json") == b"other"
    for _ in range(2):
        objects.delete("manifest.json")
        with pytest.raises(FileNotFoundError):
            objects.read("manifest.json")


def test_a_reader_sees_what_was_flushed_before_its_refresh(opened: Open, tmp_path: Path) -> None:
    """Also one in another process."""
    writer = ArchiveWriter(tmp_path / "state", objects=opened())
    with ArchiveReader(tmp_path / "state", objects=opened()) as reader:
        _fill(writer, range(1, 4))
        assert _ids(reader) == []
        reader.refresh()
        assert _ids(reader) == [1, 2, 3]
    assert ArchiveWriter(tmp_path / "state", objects=opened()).covered == writer.covered


def test_compaction_and_retention_leave_only_what_is_listed(opened: Open, tmp_path: Path) -> None:
    """Rows stay as they are, a reader of the manifest before reads on, and what went is gone."""
    writer = ArchiveWriter(tmp_path / "state", objects=opened())
    _fill(writer, range(1, 10))
    with ArchiveReader(tmp_path / "state", objects=opened()) as reader:
        while writer.compact(at_least=4, at_us=5):
            pass
        assert _ids(reader) == list(range(1, 10))
        reader.refresh()
        assert _ids(reader) == list(range(1, 10))
    assert writer.let_go(lambda file: file.latest_at_us == 9 * S, at_us=5)
    assert writer.remove_retired(before_us=6)
    assert set(opened().paths()) == {file.path for file in writer.manifest.files}


@pytest.mark.parametrize("crash_at", ["-001.parquet", manifest.NAME])
def test_a_crash_before_the_manifest_leaves_nothing(
    opened: Open, tmp_path: Path, crash_at: str
) -> None:
    """What was put is unseen, and gone after the next start; what others keep there is not."""
    _fill(ArchiveWriter(tmp_path / "state", objects=opened()), range(1, 3))
    before = manifest.load(opened())
    _put(opened(), "predictions/of somebody else.parquet", b"")
    failing = Failing(opened(), refuses=crash_at)
    with pytest.raises(OSError, match="gone away"):
        _fill(ArchiveWriter(tmp_path / "state", objects=failing), range(3, 4))
    assert manifest.load(opened()) == before
    assert len(set(opened().paths())) > len(before.files) + 1
    again = ArchiveWriter(tmp_path / "state", objects=opened())
    assert len(set(opened().paths())) == len(before.files) + 1
    _fill(again, range(3, 4))
    with ArchiveReader(tmp_path / "state", objects=opened()) as reader:
        assert _ids(reader) == [1, 2, 3]


def test_evidence_and_export_are_those_of_a_folder(opened: Open, tmp_path: Path) -> None:
    """The judge and the exports read the same rows, wherever they are."""
    found = []
    for objects in (opened(), Folder(tmp_path / "other")):
        _fill(ArchiveWriter(tmp_path / "state", objects=objects), range(1, 6))
        scene = registration()
        with ArchiveReader(tmp_path / "state", objects=objects) as reader:
            checkpoint = evaluate(
                reader, scene, rollouts(scene), None,
                cut_us=1000 * S, covered=reader.manifest.covered, at_us=0,
            )  # fmt: skip
            sink = io.BytesIO()
            export(reader, "flights", "ndjson", sink, maturity_us=100 * S, event_time="accepted")
        found.append((checkpoint, sorted(sink.getvalue().splitlines())))
    assert found[0] == found[1]
    assert len(found[0][1]) == 5
    assert json.loads(bytes(found[0][0].verdict))["n"] == 5
