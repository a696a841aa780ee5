"""The manifest: which Parquet files are the archive, and what of the journals they hold.

Rules: swapping the manifest is THE commit. A file that it does not list does not exist for
any reader, and a frame is in the archive exactly if it lies within `covered`. So after a
crash at any moment the tail goes on at `covered`, and nothing is lost or there twice. A file
that a swap leaves out stays there as `retired` for a while, because a reader may be
working from the manifest before.
"""

from __future__ import annotations

import msgspec

from gateway.archive.gaps import Gap
from gateway.archive.objects import Objects
from gateway.archive.schema import Dataset
from gateway.errors import CorruptArchive

NAME = "manifest.json"
#: How the folder begins that a reader puts pages into when a query outgrows its memory; the
#: id of its process follows.
SPILL = ".spill-"

Range = tuple[int, int]


class ArchiveFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One Parquet file. Ranges are (least, greatest) over its rows, None where no row has one.

    `tensors` are the SQL types of its `inputs.<name>` and `outputs.<name>` columns in order;
    `sources` the first and the last `source_end` of each journal writer in it, `entities` the
    least and the greatest entity. `latest_at_us` is when the last of its rows was accepted,
    run or received, and `epochs` how many rows each epoch has, of predictions only.
    """

    dataset: Dataset
    endpoint: str  # empty for labels: they carry prediction ids only
    path: str  # among the archive's objects
    rows: int
    prediction_ids: tuple[str, str]
    sources: dict[str, Range]
    tensors: dict[str, str] = {}
    accepted_at_us: Range | None = None
    occurred_at_us: Range | None = None
    entities: tuple[str, str] | None = None
    latest_at_us: int = 0
    epochs: dict[int, int] = {}
    size_bytes: int = 0


class Retired(msgspec.Struct, frozen=True):
    """A file that is no longer of the archive, and that a reader may still have open."""

    path: str
    at_us: int


class Manifest(msgspec.Struct, frozen=True):
    """The archive at one moment. `covered` is the end, in bytes of the whole journal, of the
    last frame of each writer that is in it; `sequence` counts the swaps.

    `let_go` counts the files whose rows retention has taken away; compaction takes none.
    `accepted` is how many rows each writer had accepted by `covered`, and `gaps` are those that
    are in no journal.
    """

    sequence: int = 0
    covered: dict[str, int] = {}
    files: tuple[ArchiveFile, ...] = ()
    format: int = 1
    retired: tuple[Retired, ...] = ()
    let_go: int = 0
    accepted: dict[str, int] = {}
    gaps: tuple[Gap, ...] = ()


def load(objects: Objects) -> Manifest:
    """The manifest among `objects`, an empty one before the first. Raises CorruptArchive."""
    try:
        return msgspec.json.decode(objects.read(NAME), type=Manifest)
    except FileNotFoundError:
        return Manifest()
    except msgspec.DecodeError as error:
        name = objects.name(NAME)
        raise CorruptArchive(f"{name}: {error}; put the file of a backup in its place") from None


def swap(objects: Objects, manifest: Manifest) -> None:
    """Make `manifest` the archive's, all or nothing, also if the power fails."""
    content = msgspec.json.encode(manifest)
    objects.put(NAME, lambda file: file.write(content))
