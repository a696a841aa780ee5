"""Whether the archive holds everything up to now, as the Evaluator says of itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import msgspec

from gateway.errors import StoreUnavailable
from gateway.ports import ControlStore

_POLL_S = 0.05


class _Source(msgspec.Struct):
    archived: int


class _Report(msgspec.Struct):
    sources: dict[str, _Source]


async def wait_archived(store: ControlStore, ends: Mapping[str, int], *, within_s: float) -> None:
    """Return when each journal is archived up to its offset in `ends`.

    Raises StoreUnavailable, naming how much is missing, if that takes longer.
    """
    deadline = time.monotonic() + within_s
    while missing := await asyncio.to_thread(_missing_bytes, store, ends):
        if time.monotonic() > deadline:
            raise StoreUnavailable(
                f"{missing} bytes of the journals are not archived after {within_s:g} s; "
                "see that the Evaluator runs, and try again"
            )
        await asyncio.sleep(_POLL_S)


def _missing_bytes(store: ControlStore, ends: Mapping[str, int]) -> int:
    said = store.evaluator()
    sources = {} if said is None else msgspec.json.decode(said.body, type=_Report).sources
    archived = {writer: source.archived for writer, source in sources.items()}
    return sum(max(0, end - archived.get(writer, 0)) for writer, end in ends.items())
