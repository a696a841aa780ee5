"""The archive's writer: frames of the journals in, Parquet files and a manifest out.

Rules: one writer an archive. Files are put (objects.py) before the manifest that lists them
is swapped (manifest.py), so a flush, a merge or a deletion has happened as a whole or not at
all; after a crash the tail goes on at `covered`. Files that go stay there as retired ones
until `remove_retired`. When to do any of it is the caller's business.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]

from gateway.archive import manifest as manifests
from gateway.archive.columns import Framed, label_table, prediction_tables, shadow_tables
from gateway.archive.compaction import merge, next_merge
from gateway.archive.files import write_file
from gateway.archive.gaps import RowCounts
from gateway.archive.manifest import ArchiveFile, Manifest, Retired
from gateway.archive.objects import BESIDE, Folder, Objects
from gateway.archive.schema import Dataset
from gateway.core.records import LabelsRecord, PredictionRecord, ShadowRecord

#: What a writer may have left behind. Nothing else is ever removed: a place may have other users.
_OURS = re.compile(
    rf"(predictions|shadows|labels)/.*\d{{9}}-\d{{3}}\.parquet|{re.escape(BESIDE + manifests.NAME)}"
)
_DATASETS: dict[type, Dataset] = {
    PredictionRecord: "predictions",
    ShadowRecord: "shadows",
    LabelsRecord: "labels",
}


class ArchiveWriter:
    """Appends to the archive in `folder`, which is made if it is not there."""

    def __init__(self, folder: Path, *, objects: Objects | None = None) -> None:
        """Raises CorruptArchive. Files that no manifest lists are removed. If `objects` are
        given, the archive is there, and `folder` has what its readers put on this machine."""
        folder.mkdir(parents=True, exist_ok=True)
        self._objects = objects or Folder(folder)
        self._manifest = manifests.load(self._objects)
        self._seen = dict(self._manifest.covered)
        self._pending: list[Framed] = []
        self._counts = RowCounts(self._manifest.accepted, self._manifest.covered)
        _remove_strays(self._objects, self._manifest)
        _remove_spilled(folder)

    @property
    def covered(self) -> dict[str, int]:
        """Of each journal writer, the end of its last frame that is in the archive."""
        return dict(self._manifest.covered)

    @property
    def manifest(self) -> Manifest:
        """The archive as it is now, without what was appended and not flushed."""
        return self._manifest

    @property
    def sequence(self) -> int:
        """How often the manifest was swapped; another number, other contents."""
        return self._manifest.sequence

    @property
    def pending(self) -> int:
        """How many records were appended and not flushed."""
        return len(self._pending)

    @property
    def is_dirty(self) -> bool:
        """Whether a flush would write anything."""
        return bool(self._pending) or self._counts.found

    @property
    def lost_rows(self) -> int:
        """How many rows are known to be in no journal."""
        return sum(gap.rows for gap in self._manifest.gaps)

    def append(
        self,
        source_writer: str,
        source_end: int,
        record: PredictionRecord | LabelsRecord | ShadowRecord,
    ) -> None:
        """Take a record whose frame ends at `source_end`; one that was taken before is skipped.

        The frames of a writer must come in order.
        """
        if source_end <= self._seen.get(source_writer, 0):
            return
        self._seen[source_writer] = source_end
        self._pending.append(Framed(source_writer, source_end, record))
        if isinstance(record, PredictionRecord):
            ended_at_us = record.accepted_at_us + record.queue_us + record.latency_us
            self._counts.note(
                source_writer,
                accepted_rows=record.accepted_rows,
                rows=record.rows,
                at_us=ended_at_us,
            )

    def note_tally(self, source_writer: str, *, accepted_rows: int, at_us: int) -> None:
        """Take what the writer says of rows without a record; all frames up to then were taken."""
        self._counts.note(source_writer, accepted_rows=accepted_rows, rows=0, at_us=at_us)

    def flush(self) -> bool:
        """Make everything appended durable and visible to readers; False if there was nothing.

        Raises OSError when the disk refuses; nothing is visible then, and the next flush
        tries the same records again.
        """
        if not self.is_dirty:
            return False
        sequence = self._manifest.sequence + 1
        added = [self._write(sequence, part) for part in enumerate(_parts(self._pending))]
        self._swap(
            covered=dict(self._seen),
            files=(*self._manifest.files, *added),
            accepted=self._counts.accepted,
            gaps=self._counts.added_to(self._manifest.gaps),
        )
        self._pending = []
        self._counts.forget_found()
        return True

    def compact(self, *, at_least: int, at_us: int, span_us: int | None = None) -> bool:
        """Merge some small files, if `at_least` of a size are there; whether it did.

        See `compaction.next_merge`. Raises OSError when the disk refuses; then the archive is
        as it was.
        """
        files = next_merge(self._manifest.files, at_least=at_least, span_us=span_us)
        if files:
            merged = merge(self._objects, files, f"{self._manifest.sequence + 1:09d}-000.parquet")
            self._replace(files, merged, at_us=at_us)
        return bool(files)

    def let_go(self, is_over: Callable[[ArchiveFile], bool], *, at_us: int) -> bool:
        """Take the files that retention is over for out of the archive; whether any was."""
        files = [file for file in self._manifest.files if is_over(file)]
        if files:
            self._replace(files, None, at_us=at_us)
        return bool(files)

    def remove_retired(self, *, before_us: int) -> bool:
        """Delete files that were retired before then; whether there were any."""
        due = [one for one in self._manifest.retired if one.at_us < before_us]
        for one in due:
            self._objects.delete(one.path)
        if due:
            left = tuple(one for one in self._manifest.retired if one.at_us >= before_us)
            self._swap(retired=left)
        return bool(due)

    def _replace(
        self, gone: Sequence[ArchiveFile], merged: ArchiveFile | None, *, at_us: int
    ) -> None:
        """Put `merged` where the first of the files that go was: neighbours stay neighbours."""
        paths = {file.path for file in gone}
        files: list[ArchiveFile] = []
        for file in self._manifest.files:
            if file.path not in paths:
                files.append(file)
            elif merged is not None and file.path == gone[0].path:
                files.append(merged)
        self._swap(
            files=tuple(files),
            retired=(*self._manifest.retired, *(Retired(path, at_us) for path in sorted(paths))),
            let_go=self._manifest.let_go + (len(gone) if merged is None else 0),
        )

    def _swap(self, **changed: Any) -> None:
        sequence = self._manifest.sequence + 1
        swapped = msgspec.structs.replace(self._manifest, sequence=sequence, **changed)
        manifests.swap(self._objects, swapped)
        self._manifest = swapped

    def _write(self, sequence: int, part: tuple[int, _Part]) -> ArchiveFile:
        number, (dataset, endpoint, table) = part
        name = f"{sequence:09d}-{number:03d}.parquet"
        return write_file(self._objects, dataset, endpoint, name, table)


_Part = tuple[Dataset, str, pa.Table]


def _parts(frames: Sequence[Framed]) -> Iterable[_Part]:
    """The tables to write: for each dataset and endpoint as few as their types allow."""
    for (dataset, endpoint), group in _grouped(frames).items():
        for table in _merged(_tables(dataset, group)):
            if table.num_rows:
                yield dataset, endpoint, table


def _grouped(frames: Sequence[Framed]) -> dict[tuple[Dataset, str], list[Framed]]:
    groups: dict[tuple[Dataset, str], list[Framed]] = {}
    for frame in frames:
        dataset = _DATASETS[type(frame.record)]
        endpoint = "" if dataset == "labels" else frame.record.endpoint
        groups.setdefault((dataset, endpoint), []).append(frame)
    return groups


def _tables(dataset: Dataset, frames: Sequence[Framed]) -> list[pa.Table]:
    make: dict[Dataset, Callable[[Sequence[Framed]], list[pa.Table]]] = {
        "predictions": prediction_tables,
        "shadows": shadow_tables,
        "labels": lambda frames: [label_table(frames)],
    }
    return make[dataset](frames)


def _merged(tables: Iterable[pa.Table]) -> list[pa.Table]:
    """Fewer tables, by name; those that give one column two types stay apart."""
    merged: list[list[pa.Table]] = []
    for table in tables:
        for other in merged:
            if all(_agree(part.schema, table.schema) for part in other):
                other.append(table)
                break
        else:
            merged.append([table])
    return [pa.concat_tables(group, promote_options="default") for group in merged]


def _agree(one: pa.Schema, other: pa.Schema) -> bool:
    shared = set(one.names) & set(other.names)
    return all(one.field(name).type == other.field(name).type for name in shared)


def _remove_strays(objects: Objects, manifest: Manifest) -> None:
    """What a crash left half done: nobody ever saw these files."""
    listed = {file.path for file in manifest.files} | {one.path for one in manifest.retired}
    for path in objects.paths():
        if path not in listed and _OURS.fullmatch(path):
            objects.delete(path)


def _remove_spilled(folder: Path) -> None:
    for spilled in folder.glob(f"{manifests.SPILL}*"):
        process_id = spilled.name.removeprefix(manifests.SPILL).partition("-")[0]
        if not Path("/proc", process_id).exists():
            shutil.rmtree(spilled, ignore_errors=True)
