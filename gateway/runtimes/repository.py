"""The model repository on disk: `ROOT/<endpoint>/<version>/model.onnx`.

Rules: a version appears whole (written beside, synced, renamed) and never changes; which
version is champion stands in the control store, never here.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec

from gateway.core.names import require_name
from gateway.core.routes import VersionFacts
from gateway.errors import InvalidModel, Refused, UnknownVersion
from gateway.runtimes.inspection import as_facts, facts_of, inspect_files

MODEL_FILE = "model.onnx"
ENDPOINT_FILE = "endpoint.yaml"


class ModelRepository:
    """Reads versions below a folder and adds new ones."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def endpoints(self) -> list[str]:
        """Folders that hold at least one version. Raises InvalidName for a bad folder name."""
        found = []
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else []:
            if folder.is_dir() and not folder.name.startswith(".") and self.versions(folder.name):
                found.append(require_name("endpoint", folder.name))
        return found

    def versions(self, endpoint: str) -> list[str]:
        """Version folders with a model file, sorted. Raises InvalidName for a bad folder name."""
        files = sorted((self.root / endpoint).glob(f"*/{MODEL_FILE}"))
        names = [f.parent.name for f in files if not f.parent.name.startswith(".")]
        return [require_name("version", name) for name in names]

    def endpoint_file(self, endpoint: str) -> Path:
        """Where the endpoint's file is, if it has one."""
        return self.root / endpoint / ENDPOINT_FILE

    def facts(self, endpoint: str, version: str) -> VersionFacts:
        """Inspect a version's file. Raises UnknownVersion or InvalidModel."""
        path = self.root / require_name("endpoint", endpoint) / require_name("version", version)
        if not (path / MODEL_FILE).is_file():
            raise UnknownVersion(
                f"there is no model {endpoint}/{version}/{MODEL_FILE}; use `audition models add`"
            )
        return facts_of(path / MODEL_FILE, version=version, relative_to=self.root)

    def facts_of_many(
        self, versions: Sequence[tuple[str, str]]
    ) -> list[VersionFacts | InvalidModel]:
        """Inspect many (endpoint, version) that `versions` named, far cheaper than one by one."""
        paths = [self.root / endpoint / version / MODEL_FILE for endpoint, version in versions]
        return [
            found
            if isinstance(found, InvalidModel)
            else as_facts(found, path, version=version, relative_to=self.root)
            for (_, version), path, found in zip(versions, paths, inspect_files(paths), strict=True)
        ]

    def add(
        self,
        endpoint: str,
        version: str,
        source: Path,
        *,
        accept: Callable[[VersionFacts], object] = id,
    ) -> VersionFacts:
        """Take over the file `source` as a new version; it is inspected before it appears.

        `accept` may refuse it until then. The same file under the same version is no new one.
        Raises Refused when the version is another file, InvalidModel or InvalidName.
        """
        home = self.root / require_name("endpoint", endpoint)
        target = home / require_name("version", version)
        if target.exists():
            return self._same(endpoint, version, source)
        staging = home / f".new-{uuid.uuid4().hex}"
        staging.mkdir(parents=True)
        try:
            shutil.copyfile(source, staging / MODEL_FILE)
            facts = facts_of(staging / MODEL_FILE, version=version, relative_to=self.root)
            accept(facts)
            _sync_tree(staging)
            staging.rename(target)
        except BaseException as error:
            _remove(staging)
            if isinstance(error, OSError) and target.exists():
                # Somebody added a file of this name meanwhile, and that one stays.
                return self._same(endpoint, version, source)
            raise
        _sync(home)
        path = str((target / MODEL_FILE).relative_to(self.root))
        return msgspec.structs.replace(facts, path=path)

    def _same(self, endpoint: str, version: str, source: Path) -> VersionFacts:
        facts = self.facts(endpoint, version)
        if sha256(source.read_bytes()).hexdigest() != facts.digest:
            raise Refused(f"version {version} exists and versions are immutable; choose another")
        return facts

    def read(self, facts: VersionFacts) -> tuple[bytes, Path]:
        """The bytes of a version and its folder. Raises InvalidModel when they are gone."""
        path = self.root / facts.path
        try:
            return path.read_bytes(), path.parent
        except OSError as error:
            raise InvalidModel(
                f"version {facts.version}: {facts.path} cannot be read: {error.strerror}"
            ) from error


def _remove(staging: Path) -> None:
    shutil.rmtree(staging, ignore_errors=True)
    with suppress(OSError):  # the endpoint has other versions
        staging.parent.rmdir()


def _sync_tree(folder: Path) -> None:
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
