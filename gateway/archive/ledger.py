"""Counts over the whole archive, kept up as it grows: each row is read when it comes.

Rules: a count is a sum over predictions, so what new rows change is the difference between
what their predictions count for now and what they counted for before; everything else stays
as it was. The sums equal a full recount at any moment, in whatever order rows come. One
advance reads a bounded piece of the journals, and a ledger that is lost or that the archive
contradicts is begun again: it costs time and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from gateway.archive.excerpt import Excerpt, Table, new_files, take_excerpt
from gateway.archive.manifest import ArchiveFile
from gateway.archive.schema import Dataset
from gateway.archive.tables import ArchiveReader, Rows

NAME = ".ledger.json"
#: So much of the journals, frames of all kinds, is taken into account at a time.
WINDOW_BYTES = 48 << 20

Count = Callable[[Rows], Counter[str]]


class Account(msgspec.Struct):
    """Sums over all rows up to `upto`; `basis` says what they depend on besides."""

    basis: str
    upto: dict[Dataset, dict[str, int]] = {}
    counts: dict[str, int] = {}


class Ledger:
    """The accounts of one archive, by name, in a file beside its manifest."""

    def __init__(self, folder: Path) -> None:
        """Read what was saved; nothing where that cannot be read."""
        self._path = folder / NAME
        self._accounts = _load(self._path)

    def account(self, name: str, *, basis: str, covered: Mapping[str, int]) -> Account:
        """The account as it stands; a new one if its basis or the archive is another one."""
        found = self._accounts.get(name)
        if found is None or found.basis != basis or not _is_within(found, covered):
            found = self._accounts[name] = Account(basis)
        return found

    def save(self, names: set[str]) -> None:
        """Write the file with the accounts of these names; the others are dropped."""
        self._accounts = {name: self._accounts[name] for name in names & self._accounts.keys()}
        beside = self._path.with_name(f".new-{NAME}")
        beside.write_bytes(msgspec.json.encode(self._accounts))
        beside.rename(self._path)


def advance(reader: ArchiveReader, account: Account, tables: Sequence[Table], count: Count) -> bool:
    """Take the next rows of `tables` into account; whether there are more.

    `count` is given a source that has rows of these tables and no others.
    """
    more = False
    for dataset in dict.fromkeys(dataset for dataset, _ in tables):
        of_dataset = [table for table in tables if table[0] == dataset]
        more = _advance_one(reader, account, of_dataset, tables, count) or more
    return more


def _advance_one(
    reader: ArchiveReader,
    account: Account,
    of_dataset: Sequence[Table],
    tables: Sequence[Table],
    count: Count,
) -> bool:
    dataset = of_dataset[0][0]
    before = dict(account.upto)
    after, covered = before.get(dataset, {}), reader.manifest.covered
    files = [file for table in of_dataset for file in new_files(reader, table, after, covered)]
    upto = _next_ends(files, after, covered)
    now = {**before, dataset: upto}
    if files and take_excerpt(reader, of_dataset, tables, after=after, upto=upto):
        changed = Counter(account.counts)
        changed.update(count(Excerpt(reader, now)))
        changed.subtract(count(Excerpt(reader, before)))
        account.counts = {name: n for name, n in changed.items() if n}
    account.upto = now
    return upto != covered


def _next_ends(
    files: Sequence[ArchiveFile], after: Mapping[str, int], covered: Mapping[str, int]
) -> dict[str, int]:
    """How far the next piece goes in each journal: all the way where there is nothing new."""
    begins: dict[str, int] = {}
    for file in files:
        for writer, (first, last) in file.sources.items():
            if last > after.get(writer, 0):
                begins[writer] = min(begins.get(writer, first), first)
    step_bytes = max(1, WINDOW_BYTES // max(1, len(begins)))
    ends = dict(covered)
    for writer, first in begins.items():
        ends[writer] = min(covered[writer], max(after.get(writer, 0), first - 1) + step_bytes)
    return ends


def _is_within(account: Account, covered: Mapping[str, int]) -> bool:
    return all(
        end <= covered.get(writer, 0)
        for ends in account.upto.values()
        for writer, end in ends.items()
    )


def _load(path: Path) -> dict[str, Account]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Account])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}
