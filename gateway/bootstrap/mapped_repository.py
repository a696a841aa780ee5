"""The model repository as operators' changes see it: each version as its endpoint does.

The section of a version in the endpoint file is read when the version becomes known, and is
part of the version from then on. Files alone are gateway/runtimes/repository.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.core.binding import bind, require_unchanged
from gateway.core.routes import Rollout, VersionFacts
from gateway.endpoint_file import EndpointFile, load_endpoint_file
from gateway.errors import InvalidSetting
from gateway.runtimes.repository import ModelRepository


class MappedRepository:
    """Adds and inspects versions, through the mapping that the endpoint file gives them."""

    def __init__(self, files: ModelRepository) -> None:
        self._files = files

    def versions(self, endpoint: str) -> Sequence[str]:
        """The versions that have a file."""
        return self._files.versions(endpoint)

    def facts(self, endpoint: str, version: str) -> VersionFacts:
        """Inspect the file that is there. Raises UnknownVersion, InvalidModel, InvalidSetting."""
        return self._bound(endpoint, self._files.facts(endpoint, version))

    def add(self, endpoint: str, version: str, content: Path) -> VersionFacts:
        """Take a copy of the file.

        Raises InvalidModel, InvalidSetting where the endpoint file does not fit it, or Refused
        for another file's name.
        """
        added = self._files.add(
            endpoint, version, content, accept=lambda facts: self._bound(endpoint, facts)
        )
        return self._bound(endpoint, added)

    def _bound(self, endpoint: str, facts: VersionFacts) -> VersionFacts:
        path = self._files.endpoint_file(endpoint)
        return bound(read_endpoint_file(path), path, facts)


def read_endpoint_file(path: Path) -> EndpointFile:
    """The endpoint file at `path`, or one that says nothing. Raises InvalidSetting."""
    return load_endpoint_file(path) if path.exists() else EndpointFile()


def bound(file: EndpointFile, path: Path, facts: VersionFacts) -> VersionFacts:
    """The facts of a file as its endpoint sees it. Raises InvalidSetting that names `path`."""
    try:
        return bind(facts, file.rules(), file.version(facts.version))
    except InvalidSetting as error:
        raise InvalidSetting(f"{path}: {error}") from None


def require_known_mappings(file: EndpointFile, path: Path, rollout: Rollout) -> None:
    """Raise InvalidSetting if a known version would be another by what the file says now.

    Versions that neither serve nor are named in the file are what they were.
    """
    for version, facts in rollout.versions.items():
        if version not in rollout.serving() and version not in file.versions:
            continue
        try:
            require_unchanged(facts, file.rules(), file.version(version))
        except InvalidSetting as error:
            raise InvalidSetting(f"{path}: {error}") from None
