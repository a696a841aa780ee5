"""What goes into a change and what comes out of it, and the seam to the model files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from gateway.core.routes import VersionFacts


class ModelRepository(Protocol):
    """Where model files are. `add` and `facts` inspect the file in a child process."""

    def add(self, endpoint: str, version: str, content: Path) -> VersionFacts:
        """Take a copy of the file. Raises InvalidModel, or Refused for another file's name."""

    def facts(self, endpoint: str, version: str) -> VersionFacts:
        """Inspect the file that is there. Raises UnknownVersion or InvalidModel."""

    def versions(self, endpoint: str) -> Sequence[str]:
        """The versions that have a file."""


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants a change, why, and the epoch they decided it on."""

    actor: str
    reason: str
    expected_epoch: int


class Opened(msgspec.Struct, frozen=True):
    """A registration that a change opened, and the level that its verdict must reach."""

    version: str
    registration: int
    level: float


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change that was committed, and which live workers serve by it already."""

    endpoint: str
    epoch: int
    acknowledged: list[str]
    lagging: list[str]
    opened: list[Opened]
