"""Journals that several readers follow in one process: what one has decoded, all can use.

Rules: a piece is decoded once and kept as long as somebody is likely to ask for it; whoever
comes with an offset inside a piece is given the rest of that piece, so that readers who began
at different places soon ask for the same ones. Records are shared: nobody may change them.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from gateway.journal.reader import Entry, JournalTail, writer_ids

#: A piece is about 4 MiB of journal; readers of one speed need two, one that lags its own.
_PIECES = 6


class Piece(NamedTuple):
    """Entries of one journal from an offset on; `end` also passes bytes that hold no frame."""

    entries: Sequence[Entry]
    start: int
    end: int


class SharedJournals:
    """The journals below a folder, read by any thread."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._guard = threading.Lock()
        self._pieces: OrderedDict[tuple[str, int], Piece] = OrderedDict()
        self._ends: dict[str, int] = {}

    def writer_ids(self) -> list[str]:
        """All journals that there are now."""
        return writer_ids(self._root)

    def read(self, writer_id: str, offset: int) -> Piece:
        """What follows `offset`; a piece that ends where it starts if there is nothing yet.

        Raises CorruptJournal and OSError as JournalTail.read does.
        """
        with self._guard:
            if offset >= self._ends.get(writer_id, offset + 1):
                return Piece((), offset, offset)
            return self._kept(writer_id, offset) or self._decode(writer_id, offset)

    def _kept(self, writer_id: str, offset: int) -> Piece | None:
        for key, piece in self._pieces.items():
            if key[0] == writer_id and piece.start <= offset < piece.end:
                self._pieces.move_to_end(key)
                return piece if offset == piece.start else _rest(piece, offset)
        return None

    def _decode(self, writer_id: str, offset: int) -> Piece:
        tail = JournalTail(self._root / writer_id, offset=offset)
        piece = Piece(tail.read(), offset, tail.offset)
        if tail.ended:
            self._ends[writer_id] = tail.offset
        if piece.end > piece.start:
            self._pieces[writer_id, offset] = piece
        while len(self._pieces) > _PIECES:
            self._pieces.popitem(last=False)
        return piece


def _rest(piece: Piece, offset: int) -> Piece:
    first = bisect_right(piece.entries, offset, key=attrgetter("end"))
    return Piece(piece.entries[first:], offset, piece.end)
