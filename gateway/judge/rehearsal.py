# ruff: noqa: S608 - the only names in this SQL are ours
"""What a version would have shown on earlier traffic: the judge's own figures, and no verdict.

Rules: the rows go through the very passes, pairs and evidence of a registration, under the terms
that one opened now would have. What comes out is no checkpoint and reaches no store, so nothing
can be promoted by it: the version may have been trained on these labels, and only predictions
accepted after a registration can tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from gateway.archive.comparisons import Scope, compared_rows, prediction_rows
from gateway.archive.schema import Dataset
from gateway.archive.tables import ArchiveReader, Keep, every
from gateway.core.comparable import require_comparable, require_same_file
from gateway.core.decisions import Decision
from gateway.core.evidence import Evidence, no_evidence
from gateway.core.routes import Challenger, Rollout, VersionFacts
from gateway.core.split import WHOLE_BP
from gateway.core.verdict import judge
from gateway.errors import Refused
from gateway.judge.label_free import LabelFreeReport, label_free_counts, report_of
from gateway.judge.pairs import Losses, judge_pairs, losses_of
from gateway.judge.passes import Turn, take_turn
from gateway.judge.registrations import open_registration, promotions_by_verdict
from gateway.judge.spans import span_of

#: So many rows are judged in one pass: whole rows are in memory then.
_PASS_ROWS = 100_000
_US_PER_S = 1_000_000


class MeanLosses(msgspec.Struct, frozen=True, kw_only=True):
    """Both mean losses over the `n` labelled rows on which the champion answered."""

    n: int
    champion: float
    challenger: float


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The average advantage over `n` entities, as a verdict would give it.

    `estimate` takes every unlabelled row as against the version, `estimate_greatest` as for it.
    `lower` holds at `level`, `upper` at `upper_level`.
    """

    n: int
    estimate: float
    estimate_greatest: float
    lower: float
    upper: float
    level: float
    upper_level: float


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the rows that were run, and what they say; None where there is no row.

    `judged` + `not_due` + `after_window` are the rows that were run: the horizon of those that
    are not due has not passed, and a row after its entity's window is in no observation.
    """

    judged: int
    not_due: int
    after_window: int
    labelled: int
    unlabelled: int
    unreadable_labels: int
    losses: MeanLosses | None
    difference: Difference | None
    without_labels: LabelFreeReport
    assumptions: tuple[str, ...]


def rehearsed_scope(
    rollout: Rollout, facts: VersionFacts, *, number: int, decisions: Iterable[Decision], at_us: int
) -> Scope:
    """The registration that `audition challenge` would open now, reaching back over all epochs.

    `number` is the one that it would have. Raises Refused or InvalidSetting where the version
    could not be challenged.
    """
    version, champion = facts.version, rollout.champion
    if version == champion:
        raise Refused(f"version {version} is the champion; rehearse another version against it")
    require_same_file(rollout, facts)
    known = msgspec.structs.replace(rollout, versions={**rollout.versions, version: facts})
    require_comparable(known, champion, version)
    opened = open_registration(
        known,
        champion=champion,
        version=version,
        number=number,
        promotions=promotions_by_verdict(decisions),
        at_us=at_us,
    )
    opened = msgspec.structs.replace(opened, opened_epoch=0, opened_at_us=0)
    challenger = Challenger(version, number, opened.digest, WHOLE_BP)
    seen = msgspec.structs.replace(known, challengers={version: challenger})
    # Of epochs that are not named here every row is wanted (see Scope).
    return Scope(registration=opened, rollouts={0: seen})


class Files:
    """Some files of an archive, as a source of rows."""

    def __init__(self, reader: ArchiveReader, paths: Iterable[str]) -> None:
        self._reader = reader
        self._paths = frozenset(paths)

    def types(self, dataset: Dataset, endpoint: str) -> dict[str, str]:
        """Those of the whole archive."""
        return self._reader.types(dataset, endpoint)

    def scan(self, dataset: Dataset, endpoint: str, keep: Keep = every) -> str:
        """SQL of the rows in these files."""
        return self._reader.scan(dataset, endpoint, lambda f: f.path in self._paths and keep(f))


def judge_rehearsal(
    reader: ArchiveReader, scope: Scope, parts: Iterable[Iterable[str]], *, clock_us: int
) -> Judged:
    """Judge the rows of an archive that holds only what was run again.

    `parts` are the paths of its files, those of one prediction together; `clock_us` is the
    endpoint's clock. Raises InvalidSetting where the outputs cannot be read as the terms say.
    """
    without_labels = _without_labels(reader, scope, parts)
    evidence, losses = no_evidence(), Losses(n=0, champion=0.0, challenger=0.0)
    after_window = unreadable = 0
    for turn in _turns(reader, scope, clock_us):
        after_window += turn.after_window
        if turn.pairs.num_rows:
            judged = judge_pairs(turn.pairs, scope.registration)
            evidence = evidence.merge(judged.evidence)
            unreadable += judged.unreadable_labels
            losses = _sum(losses, losses_of(turn.pairs, scope.registration))
    counts = evidence.counts
    difference, assumptions = _difference(evidence, scope, clock_us)
    return Judged(
        judged=counts.rows,
        not_due=without_labels.challenger.n - counts.rows - after_window,
        after_window=after_window,
        labelled=counts.labelled,
        unlabelled=counts.unlabelled,
        unreadable_labels=unreadable,
        losses=_means(losses),
        difference=difference,
        without_labels=without_labels,
        assumptions=assumptions,
    )


def _turns(reader: ArchiveReader, scope: Scope, clock_us: int) -> Iterator[Turn]:
    """Passes that each take a bounded number of rows; they add up to one over everything."""
    before_us: int | None = None
    for cut_us in _cuts(reader, scope, clock_us):
        span = span_of(scope, before_us=before_us, cut_us=cut_us)
        yield take_turn(reader, scope, span, covered_before={}, known_late=())
        before_us = cut_us


def _cuts(reader: ArchiveReader, scope: Scope, clock_us: int) -> list[int]:
    endpoint = scope.registration.endpoint
    rows = sum(file.rows for file in reader.files("predictions", endpoint))
    shares = [place * _PASS_ROWS / rows for place in range(1, rows // _PASS_ROWS + 1)]
    (found,) = reader.table(
        f"""SELECT quantile_disc({scope.event_us}, {shares or [1.0]}) AS times
        FROM {reader.scan("predictions", endpoint)}"""
    ).to_pylist()
    maturity_us = scope.registration.terms.maturity_s * _US_PER_S
    cuts = {time_us + maturity_us for time_us in found["times"] or ()}
    return sorted({cut_us for cut_us in cuts if cut_us < clock_us} | {clock_us})


def _without_labels(
    reader: ArchiveReader, scope: Scope, parts: Iterable[Iterable[str]]
) -> LabelFreeReport:
    counts: dict[str, int] = {}
    for paths in parts:
        part = Files(reader, paths)
        rows = compared_rows(part, scope, prediction_rows(part, scope))
        for name, n in label_free_counts(reader, part, scope, rows).items():
            counts[name] = counts.get(name, 0) + n
    return report_of(counts)


def _difference(
    evidence: Evidence, scope: Scope, clock_us: int
) -> tuple[Difference | None, tuple[str, ...]]:
    """Taken from a verdict, whose kind nobody is shown: there is nothing to decide here."""
    registration = scope.registration
    said = judge(
        evidence,
        registration.terms,
        level=registration.level,
        opened_at_us=0,
        clock_at_us=clock_us,
    )
    if said.estimate is None or said.estimate_greatest is None:
        return None, said.assumptions
    found = Difference(
        n=said.n,
        estimate=said.estimate,
        estimate_greatest=said.estimate_greatest,
        lower=said.lower,
        upper=said.upper,
        level=said.level,
        upper_level=said.upper_level,
    )
    return found, said.assumptions


def _sum(one: Losses, other: Losses) -> Losses:
    return Losses(
        n=one.n + other.n,
        champion=one.champion + other.champion,
        challenger=one.challenger + other.challenger,
    )


def _means(sums: Losses) -> MeanLosses | None:
    if not sums.n:
        return None
    return MeanLosses(
        n=sums.n, champion=sums.champion / sums.n, challenger=sums.challenger / sums.n
    )
