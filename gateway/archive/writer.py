"""The archive's writer: frames of the journals in, Parquet files and a manifest out.

Rules: one writer a folder. Files are written beside, fsynced and renamed before the manifest
that lists them is swapped (see manifest.py), so a flush has happened as a whole or not at
all; after a crash the tail goes on at `covered`. When to flush is the caller's business.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from gateway.archive import manifest as manifests
from gateway.archive.columns import Framed, label_table, prediction_tables, shadow_tables
from gateway.archive.manifest import ArchiveFile, Manifest, Range
from gateway.archive.schema import FIXED, REPEATING, Dataset, sql_type
from gateway.core.records import LabelsRecord, PredictionRecord, ShadowRecord

_ROW_GROUP_ROWS = 65_536
_DATASETS: dict[type, Dataset] = {
    PredictionRecord: "predictions",
    ShadowRecord: "shadows",
    LabelsRecord: "labels",
}


class ArchiveWriter:
    """Appends to the archive in `folder`, which is made if it is not there."""

    def __init__(self, folder: Path) -> None:
        """Raises CorruptArchive. Files that no manifest lists are removed."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._manifest = manifests.load(folder)
        self._seen = dict(self._manifest.covered)
        self._pending: list[Framed] = []
        _remove_strays(folder, self._manifest)

    @property
    def covered(self) -> dict[str, int]:
        """Of each journal writer, the end of its last frame that is in the archive."""
        return dict(self._manifest.covered)

    @property
    def sequence(self) -> int:
        """How often the archive was flushed; another number, other contents."""
        return self._manifest.sequence

    @property
    def pending(self) -> int:
        """How many records were appended and not flushed."""
        return len(self._pending)

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

    def flush(self) -> bool:
        """Make everything appended durable and visible to readers; False if there was nothing.

        Raises OSError when the disk refuses; nothing is visible then, and the next flush
        tries the same records again.
        """
        if not self._pending:
            return False
        sequence = self._manifest.sequence + 1
        added = [self._write(sequence, part) for part in enumerate(_parts(self._pending))]
        swapped = Manifest(
            sequence=sequence, covered=dict(self._seen), files=(*self._manifest.files, *added)
        )
        manifests.swap(self._folder, swapped)
        self._manifest, self._pending = swapped, []
        return True

    def _write(self, sequence: int, part: tuple[int, _Part]) -> ArchiveFile:
        number, (dataset, endpoint, table) = part
        folder = self._folder / dataset / endpoint
        _make_folder(folder, self._folder)
        path = folder / f"{sequence:09d}-{number:03d}.parquet"
        _write_durably(path, table)
        return _described(dataset, endpoint, str(path.relative_to(self._folder)), table)


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


def _make_folder(folder: Path, root: Path) -> None:
    if folder.is_dir():
        return
    folder.mkdir(parents=True)
    for parent in (folder.parent, root):
        manifests.sync_folder(parent)


def _write_durably(path: Path, table: pa.Table) -> None:
    beside = path.with_name(f".new-{path.name}")
    with beside.open("wb") as file:
        pq.write_table(
            table,
            file,
            compression="zstd",
            use_dictionary=[name for name in REPEATING if name in table.column_names],
            row_group_size=_ROW_GROUP_ROWS,
        )
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    manifests.sync_folder(path.parent)


def _described(dataset: Dataset, endpoint: str, path: str, table: pa.Table) -> ArchiveFile:
    fixed = FIXED[dataset]
    tensors = [field for field in table.schema if field.name not in fixed]
    is_prediction = dataset == "predictions"
    return ArchiveFile(
        dataset=dataset,
        endpoint=endpoint,
        path=path,
        rows=table.num_rows,
        prediction_ids=_range(table["prediction_id"]) or ("", ""),
        sources=_sources(table),
        tensors={field.name: sql_type(field.type) for field in tensors},
        accepted_at_us=_instants(table["accepted_at"]) if is_prediction else None,
        occurred_at_us=_instants(table["occurred_at"]) if is_prediction else None,
        entities=_range(table["entity"]) if is_prediction else None,
    )


def _instants(column: pa.ChunkedArray) -> Range | None:
    found: Range | None = _range(column.cast(pa.int64()))
    return found


def _range(column: pa.ChunkedArray) -> Any:
    found = pc.min_max(column).as_py()
    return None if found["min"] is None else (found["min"], found["max"])


def _sources(table: pa.Table) -> dict[str, Range]:
    ends = table.group_by("source_writer").aggregate([("source_end", "min"), ("source_end", "max")])
    return {
        row["source_writer"]: (row["source_end_min"], row["source_end_max"])
        for row in ends.to_pylist()
    }


def _remove_strays(folder: Path, manifest: Manifest) -> None:
    """What a crash left half done: nobody ever saw these files."""
    listed = {folder / file.path for file in manifest.files}
    for path in (*folder.rglob("*.parquet"), *folder.glob(f".new-{manifests.NAME}")):
        if path not in listed:
            path.unlink()
    for spilled in folder.glob(f"{manifests.SPILL}*"):
        process_id = spilled.name.removeprefix(manifests.SPILL).partition("-")[0]
        if not Path("/proc", process_id).exists():
            shutil.rmtree(spilled, ignore_errors=True)
