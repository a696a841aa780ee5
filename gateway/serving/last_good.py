"""The rollouts that this machine's workers served last, on its own disk.

A worker that starts while the control store is away serves by these. They are never read
while the store answers, and each is whole or not there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from gateway.core.routes import Rollout


class LastGood:
    """One file an endpoint in `folder`, shared by the workers of a state folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, rollout: Rollout) -> None:
        """Remember what is served now. A disk that refuses costs the memory, not the answer."""
        beside = self._folder / f".new-{rollout.endpoint}-{os.getpid()}"
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            beside.write_bytes(msgspec.json.encode(rollout))
            beside.rename(self._folder / f"{rollout.endpoint}.json")

    def rollouts(self) -> Iterator[Rollout]:
        """Those that can be read."""
        for path in sorted(self._folder.glob("[!.]*.json")):
            with suppress(OSError, msgspec.DecodeError):
                yield msgspec.json.decode(path.read_bytes(), type=Rollout)
