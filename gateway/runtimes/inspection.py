"""Looking at model files that somebody handed us: in child processes, under limits.

A model of 163 bytes can ask for 256 GiB and one of 263 bytes can loop for ever, so nothing
of an unknown file is touched in a process that answers clients. The child (inspector.py)
prints one report a file; whatever else happens to it is the file's fault and is said as such.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from gateway.core.routes import ClassName, VersionFacts
from gateway.core.tensors import Signature
from gateway.errors import InvalidModel

DEADLINE_S = 60
#: For the child itself to start, on a machine that is busy.
_START_S = 60


class Inspection(msgspec.Struct, frozen=True):
    """What the file says of itself, and what a trial run showed."""

    digest: str
    signature: Signature
    batches: bool
    inline: bool  # no node holds a graph of its own, as Loop, Scan and If do
    external: tuple[str, ...] = ()  # files beside the model that hold weights of it
    classes: tuple[ClassName, ...] = ()  # in the order of the model's columns, if it names them
    squashed: tuple[str, ...] = ()  # outputs that come out of a Sigmoid or Softmax


class Report(msgspec.Struct, omit_defaults=True):
    """What the child says of one file: what it found, or why the file is refused."""

    found: Inspection | None = None
    refused: str = ""


def inspect_file(path: Path, *, deadline_s: float = DEADLINE_S) -> Inspection:
    """Inspect a model file in a child. Raises InvalidModel with the reason."""
    (found,) = inspect_files([path], deadline_s=deadline_s)
    if isinstance(found, InvalidModel):
        raise found
    return found


def inspect_files(
    paths: Sequence[Path], *, deadline_s: float = DEADLINE_S
) -> list[Inspection | InvalidModel]:
    """Inspect many files, each for itself; `deadline_s` is for one. In the order of `paths`."""
    children = max(1, min(os.cpu_count() or 1, len(paths)))
    found: list[Inspection | InvalidModel] = [InvalidModel("not looked at")] * len(paths)
    # Starting a child is most of the time that a small model takes, so there are few of them.
    with ThreadPoolExecutor(children) as pool:
        shares = [paths[first::children] for first in range(children)]
        for first, some in enumerate(pool.map(lambda s: _inspect(s, deadline_s), shares)):
            found[first::children] = some
    return found


def facts_of(path: Path, *, version: str, relative_to: Path) -> VersionFacts:
    """The facts of a version whose model file is `path`. Raises InvalidModel."""
    return as_facts(inspect_file(path), path, version=version, relative_to=relative_to)


def as_facts(found: Inspection, path: Path, *, version: str, relative_to: Path) -> VersionFacts:
    """What was found of the file as the facts of a version."""
    return VersionFacts(
        version=version,
        digest=found.digest,
        path=str(path.relative_to(relative_to)),
        signature=found.signature,
        batches=found.batches,
        inline=found.inline,
        external=found.external,
    )


def _inspect(paths: Sequence[Path], deadline_s: float) -> list[Inspection | InvalidModel]:
    """One child for all of these."""
    if not paths:
        return []
    command = [sys.executable, "-m", "gateway.runtimes.inspector", str(deadline_s)]
    command += map(str, paths)
    most_s = _START_S + deadline_s * len(paths)
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, capture_output=True, timeout=most_s, check=False
        )
    except subprocess.TimeoutExpired:
        return [InvalidModel(f"{path.name}: no inspection in {most_s:g} s") for path in paths]
    reports = [msgspec.json.decode(line, type=Report) for line in done.stdout.splitlines()]
    last = done.stderr.decode(errors="replace").strip().split("\n")[-1]
    missing = Report(refused=f"the inspection ended too early: {last[:300]}")
    reports += [missing] * (len(paths) - len(reports))
    return [
        report.found or InvalidModel(f"{path.name}: {report.refused}")
        for path, report in zip(paths, reports, strict=True)
    ]
