"""A rehearsal: a version run on earlier traffic, as its shadow would have been.

    archive → the requests that can be run again → runner → scratch archive → the judge's figures

Rules: the archive and the control store are only read; what is written goes into a scratch folder
of the caller's. The runs are those of a shadow, under its limits and with its blame for failures,
so the same rows give the same figures. Nothing here can promote: see gateway/judge/rehearsal.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]

from gateway.archive.columns import Framed
from gateway.archive.comparisons import Scope
from gateway.archive.replay import (
    COUNTED,
    ScratchArchive,
    Wanted,
    carried_inputs,
    count_rows,
    eligible,
    newest_after,
)
from gateway.archive.requests import requests_of, require_readable, whole_predictions
from gateway.archive.tables import ArchiveReader
from gateway.core.records import PredictionRecord
from gateway.core.routes import VersionFacts
from gateway.core.split import WHOLE_BP
from gateway.errors import Refused
from gateway.judge.rehearsal import Judged, judge_rehearsal
from gateway.shadow.frames import shadow_record
from gateway.shadow.latencies import time_pairs
from gateway.shadow.runner import Runner
from gateway.shadow.running import RunResult, run_all
from gateway.shadow.tasks import Task, sampling_key

WHY_NOT = (
    "A rehearsal cannot promote: this version may have been trained on these very labels, and only "
    "predictions accepted after `audition challenge` can tell"
)
#: So many rows are written together.
_WRITTEN_ROWS = 50_000
_TOGETHER = 1_024
_WRITER = "rehearsal"


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the rows that were read: `run`, `over_limit` and the others add up to it."""

    read: int
    run: int
    not_captured: int
    over_limit: int
    excluded: dict[str, int]


class RunTime(msgspec.Struct, frozen=True, kw_only=True):
    """The version's own time a row, in the batches that it ran in; over `n` rows."""

    n: int
    mean_us: float


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What a rehearsal found. Times are in µs on the endpoint's clock, None where none was said."""

    endpoint: str
    version: str
    champion: str
    metric: str
    since_us: int | None
    until_us: int | None
    clock_us: int
    rows: Rows
    result: Judged
    run_time: RunTime | None
    can_promote: bool
    why_not: str


class Rehearser:
    """Runs one rehearsal. `make_runner` starts the processes of versions; `advance` is told how
    many rows are done."""

    def __init__(
        self,
        reader: ArchiveReader,
        scope: Scope,
        *,
        scratch: Path,
        make_runner: Callable[[VersionFacts], Runner],
        advance: Callable[[int, int], None],
    ) -> None:
        """`reader` must spill outside the archive; `scratch` must not exist."""
        self._reader = reader
        self._scope = scope
        self._scratch = scratch
        self._make_runner = make_runner
        self._advance = advance
        self._runners: dict[str, Runner] = {}
        self._done = 0
        self._timed_rows = 0
        self._time_us = 0.0

    def rehearse(
        self, *, since_us: int | None, until_us: int | None, clock_us: int, limit_rows: int | None
    ) -> Rehearsal:
        """Run the version on the champion's rows since ≤ time < until, the newest ones.

        Raises Refused where there is nothing to run.
        """
        registration = self._scope.registration
        wanted = self._wanted(since_us, until_us)
        counts = count_rows(self._reader, wanted)
        _require_rows(wanted, counts)
        self._require_inputs()
        after_id = ""
        if limit_rows is not None:
            after_id = newest_after(self._reader, wanted, rows=limit_rows)
        labels = self._reader.files("labels", "")
        scratch = ScratchArchive(self._scratch, labels, self._reader.objects)
        try:
            parts = self._run(wanted, after_id, scratch, _total(counts, limit_rows))
        finally:
            for runner in self._runners.values():
                runner.close()
        if not parts:
            raise Refused(f"limit_rows: the newest request has more than {limit_rows} rows")
        with ArchiveReader(self._scratch) as reader:
            result = judge_rehearsal(reader, self._scope, parts, clock_us=clock_us)
        return Rehearsal(
            endpoint=registration.endpoint,
            version=registration.version,
            champion=registration.champion,
            metric=registration.terms.metric,
            since_us=since_us,
            until_us=until_us,
            clock_us=clock_us,
            rows=_rows(counts, run=self._done),
            result=result,
            run_time=self._run_time(),
            can_promote=False,
            why_not=WHY_NOT,
        )

    def _wanted(self, since_us: int | None, until_us: int | None) -> Wanted:
        terms = self._scope.registration.terms
        return Wanted(
            endpoint=terms.endpoint,
            digest=terms.champion_digest,
            event_time=terms.event_time,
            since_us=since_us,
            until_us=until_us,
            needs_entity=terms.entity.source == "parameter",
        )

    def _facts(self, version: str) -> VersionFacts:
        return self._scope.rollouts[0].versions[version]

    def _require_inputs(self) -> None:
        registration = self._scope.registration
        facts = self._facts(registration.version)
        carried = carried_inputs(self._reader, registration.endpoint)
        missing = [spec.name for spec in facts.signature.inputs if spec.name not in carried]
        if missing:
            raise Refused(
                f"version {facts.version} reads {', '.join(missing)}, which no archived request "
                f"carries; they carry {', '.join(carried)}. Map its inputs in the endpoint file, "
                "or challenge it once clients send what it reads"
            )
        for version in (registration.version, registration.champion):
            require_readable(version, self._facts(version).signature.inputs)

    def _run(
        self, wanted: Wanted, after_id: str, scratch: ScratchArchive, total: int
    ) -> list[list[str]]:
        """The paths of the files of each part."""
        parts: list[list[str]] = []
        tables: list[pa.Table] = []
        frames: list[Framed] = []
        for table in whole_predictions(eligible(self._reader, wanted, after_id=after_id)):
            frames += self._run_table(table)
            tables.append(_without_inputs(table))
            self._done += table.num_rows
            self._advance(self._done, total)
            if sum(one.num_rows for one in tables) >= _WRITTEN_ROWS:
                parts.append(scratch.add(pa.concat_tables(tables), frames))
                tables, frames = [], []
        if tables:
            parts.append(scratch.add(pa.concat_tables(tables), frames))
        return parts

    def _run_table(self, table: pa.Table) -> Iterator[Framed]:
        versions = self._scope.rollouts[0].versions.values()
        specs = {spec.name: spec for facts in versions for spec in facts.signature.inputs}
        records = requests_of(table, list(specs.values()))
        for first in range(0, len(records), _TOGETHER):
            yield from self._run_records(records[first : first + _TOGETHER])

    def _run_records(self, records: Sequence[PredictionRecord]) -> Iterator[Framed]:
        registration = self._scope.registration
        runner = self._runner(registration.version)
        tasks = [Task(one, _WRITER, 0, (registration.version,), WHOLE_BP) for one in records]
        results = run_all(runner, tasks)
        pairs = time_pairs(
            tasks,
            key=sampling_key(registration.digest),
            champion=registration.champion,
            challenger=registration.version,
            runner_of=self._runner,
        )
        for place, (task, result) in enumerate(zip(tasks, results, strict=True)):
            self._note_time(result, task.prediction.rows)
            record = shadow_record(
                task,
                result,
                registration=registration,
                version=registration.version,
                digest=runner.facts.digest,
                source_end=0,
                alone=pairs.get(place),
            )
            yield Framed(_WRITER, 0, record)

    def _runner(self, version: str) -> Runner:
        if version not in self._runners:
            self._runners[version] = self._make_runner(self._facts(version))
        return self._runners[version]

    def _note_time(self, result: RunResult, rows: int) -> None:
        if result.status == "ok":
            self._timed_rows += rows
            self._time_us += result.latency_us * rows / max(result.batch_rows, 1)

    def _run_time(self) -> RunTime | None:
        if not self._timed_rows:
            return None
        return RunTime(n=self._timed_rows, mean_us=self._time_us / self._timed_rows)


def _without_inputs(table: pa.Table) -> pa.Table:
    return table.select([name for name in table.column_names if not name.startswith("inputs.")])


def _total(counts: dict[str, int], limit_rows: int | None) -> int:
    return counts["eligible"] if limit_rows is None else min(limit_rows, counts["eligible"])


def _rows(counts: dict[str, int], *, run: int) -> Rows:
    others = [kind for kind in COUNTED if kind not in ("eligible", "not_captured")]
    return Rows(
        read=sum(counts.values()),
        run=run,
        not_captured=counts["not_captured"],
        over_limit=counts["eligible"] - run,
        excluded={kind: counts[kind] for kind in others},
    )


def _require_rows(wanted: Wanted, counts: dict[str, int]) -> None:
    if counts["eligible"]:
        return
    if not any(counts.values()):
        asked = "in the time asked for" if wanted.since_us or wanted.until_us else "at all"
        raise Refused(
            f"the archive has no prediction of endpoint {wanted.endpoint} {asked}; see its "
            "predictions with `audition export`, and choose another --since and --until"
        )
    if counts["not_captured"]:
        raise Refused(
            f"none of the {sum(counts.values())} rows of endpoint {wanted.endpoint} can be run "
            f"again: the inputs of {counts['not_captured']} were not kept (capture.inputs of the "
            "endpoint file is none or sampled). Set it to all, and rehearse on traffic from then on"
        )
    found = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)
    raise Refused(
        f"no row of endpoint {wanted.endpoint} can be run again ({found}): a rehearsal needs rows "
        "that the champion of now answered; choose another --since and --until"
    )
