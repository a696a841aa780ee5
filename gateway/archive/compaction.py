"""Compaction: many small Parquet files of one dataset become few large ones.

Rules: no row is changed, lost or added, and what the manifest says of the merged file holds
for the files it replaces together. Files are merged by size, eight of about the same size
into one, so a row is written again at most six times; a merge is bounded in rows and bytes,
and so is the work of one step. Rows are sorted by prediction id: a reader that wants few of
them then skips the rest of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa  # type: ignore[import-untyped]

from gateway.archive.files import write_file
from gateway.archive.manifest import ArchiveFile
from gateway.archive.objects import Objects

#: A file of so many rows is left alone, and no merge makes one of more than twice as many.
FULL_ROWS = 131_072
MOST_ROWS = 2 * FULL_ROWS
#: Rows may be wide: what counts for memory and time is bytes.
FULL_BYTES = 64 << 20
MOST_BYTES = 2 * FULL_BYTES
#: Files of one size that are worth a merge while there is nothing else to do, and while there is.
IDLE_FILES = 8
BUSY_FILES = 32
_MERGED_AT_ONCE = 8


def next_merge(
    files: Iterable[ArchiveFile], *, at_least: int = IDLE_FILES, span_us: int | None = None
) -> tuple[ArchiveFile, ...]:
    """The files to merge next; none while no `at_least` of a size are waiting.

    Where retention takes files away whole, `span_us` is how far apart the times of one may be.
    """
    sizes: dict[tuple[str, str, int, int], list[ArchiveFile]] = {}
    for file in files:
        if file.rows < FULL_ROWS and file.size_bytes < FULL_BYTES:
            # Sizes are powers of eight: eight files of one make at least one of the next.
            size = (file.rows.bit_length() - 1) // 3
            period = 0 if span_us is None else file.latest_at_us // span_us
            sizes.setdefault((file.dataset, file.endpoint, period, size), []).append(file)
    for _, waiting in sorted(sizes.items(), key=lambda one: one[0][-1]):
        if len(waiting) >= at_least:
            for merge in _mergeable(waiting):
                return merge
    return ()


def merge(objects: Objects, files: Sequence[ArchiveFile], name: str) -> ArchiveFile:
    """Write the rows of `files` as one file. Raises OSError; `files` stay as they are."""
    tables = [objects.rows(file.path) for file in files]
    table = pa.concat_tables(tables, promote_options="default")
    rows = table.sort_by([("prediction_id", "ascending"), ("row", "ascending")])
    return write_file(objects, files[0].dataset, files[0].endpoint, name, rows)


def _mergeable(waiting: Sequence[ArchiveFile]) -> Iterator[tuple[ArchiveFile, ...]]:
    """Groups of neighbours that fit into one file and give no column two types."""
    for place, first in enumerate(waiting):
        group, rows, size_bytes = [first], first.rows, first.size_bytes
        types = dict(first.tensors)
        for file in waiting[place + 1 :]:
            rows, size_bytes = rows + file.rows, size_bytes + file.size_bytes
            if rows > MOST_ROWS or size_bytes > MOST_BYTES or len(group) == _MERGED_AT_ONCE:
                break
            if any(types.get(name, kind) != kind for name, kind in file.tensors.items()):
                rows, size_bytes = rows - file.rows, size_bytes - file.size_bytes
                continue
            types |= file.tensors
            group.append(file)
        if len(group) > 1:
            yield tuple(group)
