"""Waiting until the archive holds what the journals hold now."""

from __future__ import annotations

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


def wait_archived(store: ControlStore, ends: Mapping[str, int], *, within_s: float) -> None:
    """Return once the Evaluator reports every journal archived up to its offset in `ends`.

    Raises StoreUnavailable that names the journals that lag.
    """
    deadline = time.monotonic() + within_s
    while lagging := _lagging(store, ends):
        if time.monotonic() > deadline:
            raise StoreUnavailable(
                f"the archive does not hold all of journal {', '.join(lagging)} after "
                f"{within_s:g} s; see in `audition status` whether the Evaluator runs"
            )
        time.sleep(_POLL_S)


def _lagging(store: ControlStore, ends: Mapping[str, int]) -> list[str]:
    said = store.evaluator()
    sources = {} if said is None else msgspec.json.decode(said.body, type=_Report).sources
    return [
        writer_id
        for writer_id, end in ends.items()
        if end and (writer_id not in sources or sources[writer_id].archived < end)
    ]
