"""A rehearsal over one state folder, put together: settings in, what it found out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb
import msgspec

from gateway.archive.comparisons import Scope
from gateway.archive.final_labels import latest_observation_us
from gateway.archive.objects import Objects
from gateway.archive.place import objects_at, require_here
from gateway.archive.tables import ArchiveReader
from gateway.bootstrap.clocks import EndpointClock
from gateway.bootstrap.control import known_store
from gateway.bootstrap.evaluator import make_runner
from gateway.bootstrap.identity import now_us
from gateway.bootstrap.mapped_repository import MappedRepository
from gateway.core.routes import Rollout
from gateway.errors import CorruptArchive
from gateway.judge.rehearsal import rehearsed_scope
from gateway.rehearsal import Rehearsal, Rehearser
from gateway.runtimes.repository import ModelRepository
from gateway.settings import Settings


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What to rehearse. The functions turn the endpoint's clock into a time, both in µs."""

    endpoint: str
    version: str
    since: Callable[[int], int] | None
    until: Callable[[int], int] | None
    limit_rows: int | None


def rehearse(settings: Settings, asked: Asked, advance: Callable[[int, int], None]) -> Rehearsal:
    """Run it; `advance` is called with the rows done and how many there will be at most.

    Raises Refused, UnknownEndpoint, UnknownVersion, InvalidModel or InvalidSetting where it makes
    no sense, StoreUnavailable where the folder is not one of ours.
    """
    scope = _scope(settings, asked)
    with tempfile.TemporaryDirectory(prefix="audition-rehearsal-") as folder:
        scratch = Path(folder)
        with ArchiveReader(scratch, objects=_archive(settings)) as reader:
            rehearser = Rehearser(
                reader,
                scope,
                scratch=scratch / "run",
                make_runner=partial(make_runner, settings),
                advance=advance,
            )
            try:
                return _rehearse(settings, asked, scope, reader, rehearser)
            except (duckdb.IOException, FileNotFoundError) as error:
                raise CorruptArchive(
                    f"the archive cannot be read: {error}. If it was compacted meanwhile, rehearse "
                    "again, on fewer rows"
                ) from error


def _archive(settings: Settings) -> Objects:
    own = settings.state / "archive"
    if not settings.archive:
        require_here(own, settings.state / "archive-id")
    return objects_at(own, settings.archive)


def _scope(settings: Settings, asked: Asked) -> Scope:
    store = known_store(settings)
    rollout = store.rollout(asked.endpoint)
    repository = MappedRepository(ModelRepository(settings.models))
    return rehearsed_scope(
        rollout,
        repository.facts(asked.endpoint, asked.version),
        number=len(store.registrations(asked.endpoint)) + 1,
        decisions=store.decisions(asked.endpoint),
        at_us=now_us(),
    )


def _rehearse(
    settings: Settings, asked: Asked, scope: Scope, reader: ArchiveReader, rehearser: Rehearser
) -> Rehearsal:
    clock_us = _clock_us(settings, reader, scope.rollouts[0])
    until_us = None if asked.until is None else asked.until(clock_us)
    latest_us = clock_us if until_us is None else until_us
    return rehearser.rehearse(
        since_us=None if asked.since is None else asked.since(latest_us),
        until_us=until_us,
        clock_us=clock_us,
        limit_rows=asked.limit_rows,
    )


def _clock_us(settings: Settings, reader: ArchiveReader, rollout: Rollout) -> int:
    def observed_until_us(endpoint: str) -> int:
        files = reader.files("labels", "")
        return latest_observation_us(reader, endpoint, files) if files else 0

    return EndpointClock(settings.state / "clock", observed_until_us).now_us(rollout)
