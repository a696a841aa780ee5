"""One pass of the judge: what has matured since the last one, added to the evidence.

Rules: the evidence is a sum over passes, so a pass reads only rows whose turn it is (see
passes.py) and is lost as a whole or written as a whole: the checkpoint before it and the
archive are all that it needs. Recomputing every pass from the recorded cuts gives the same
checkpoints to the last byte, but for `unrecorded`: that is what is known now of the whole time
since the registration was opened.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pyarrow.compute as pc  # type: ignore[import-untyped]

from gateway.archive.comparisons import Scope
from gateway.archive.gaps import unrecorded_rows
from gateway.archive.tables import ArchiveReader
from gateway.core.evidence import Counts, no_evidence
from gateway.core.routes import Rollout
from gateway.judge.evidence_state import Accounting, EvidenceState, state_of, written
from gateway.judge.pairs import judge_pairs
from gateway.judge.passes import Turn, take_turn
from gateway.judge.spans import span_of
from gateway.judge.verdicts import verdict_of
from gateway.ports import Checkpoint, Registration


def evaluate(
    reader: ArchiveReader,
    registration: Registration,
    rollouts: Mapping[int, Rollout],
    previous: Checkpoint | None,
    *,
    cut_us: int,
    covered: Mapping[str, int],
    at_us: int,
) -> Checkpoint:
    """The checkpoint after a pass up to `cut_us`.

    The archive must hold each journal up to `covered`, whose ends were measured after the
    endpoint's clock had passed `cut_us`. `rollouts` are the registration's epochs. The
    checkpoint's `cut_us` is the one reached, less than asked for where a shadow run is owed.
    Raises InvalidSetting where the outputs cannot be read as the terms say.
    """
    reader.refresh()
    covered = _covered_now(previous, covered)
    scope = Scope(registration=registration, rollouts=rollouts, covered=covered)
    before = state_of(previous)
    turn = take_turn(
        reader,
        scope,
        span_of(scope, before_us=None if previous is None else previous.cut_us, cut_us=cut_us),
        covered_before={} if previous is None else previous.covered,
        known_late=before.late,
    )
    lost = unrecorded_rows(reader.manifest.gaps, since_us=registration.opened_at_us)
    state = _with_unrecorded(_added(before, turn, registration), lost)
    return Checkpoint(
        endpoint=registration.endpoint,
        registration=registration.number,
        number=1 if previous is None else previous.number + 1,
        at_us=at_us,
        cut_us=turn.span.cut_us,
        covered=dict(covered),
        evidence=written(state),
        verdict=msgspec.Raw(
            msgspec.json.encode(verdict_of(state, registration, cut_us=turn.span.cut_us))
        ),
    )


def says_the_same(one: Checkpoint | None, other: Checkpoint) -> bool:
    """Whether `other` adds neither evidence nor another kind of verdict to `one`."""
    if one is None:
        return False
    return bytes(one.evidence) == bytes(other.evidence) and _kind(one) == _kind(other)


def _kind(checkpoint: Checkpoint) -> str:
    kind: str = msgspec.json.decode(checkpoint.verdict)["kind"]
    return kind


def _covered_now(previous: Checkpoint | None, covered: Mapping[str, int]) -> dict[str, int]:
    """What has been read is never unread, also where a journal is gone by now."""
    before = {} if previous is None else previous.covered
    return {w: max(covered.get(w, 0), before.get(w, 0)) for w in sorted({*covered, *before})}


def _added(before: EvidenceState, turn: Turn, registration: Registration) -> EvidenceState:
    """The state after the pass."""
    judged = judge_pairs(turn.pairs, registration) if turn.pairs.num_rows else None
    excluded = Counts(after_window=turn.after_window, excluded=turn.ineligible)
    added = msgspec.structs.replace(no_evidence(), counts=excluded)
    evidence = before.evidence.merge(added)
    accounting = before.accounting
    return EvidenceState(
        evidence=evidence if judged is None else evidence.merge(judged.evidence),
        accounting=Accounting(
            unsampled=accounting.unsampled + turn.unsampled,
            late=accounting.late + turn.late_rows,
            without_time=accounting.without_time + turn.without_time,
            without_entity=accounting.without_entity + turn.without_entity,
            refused=accounting.refused + (judged.refused if judged else 0),
            unreadable_labels=accounting.unreadable_labels
            + (judged.unreadable_labels if judged else 0),
            pending=turn.pending,
        ),
        late=turn.late if registration.terms.entity.source == "parameter" else (),
        first_event_us=_first(before, turn),
    )


def _with_unrecorded(state: EvidenceState, rows: int) -> EvidenceState:
    counts = msgspec.structs.replace(state.evidence.counts, unrecorded=rows)
    evidence = msgspec.structs.replace(state.evidence, counts=counts)
    return msgspec.structs.replace(state, evidence=evidence)


def _first(before: EvidenceState, turn: Turn) -> int | None:
    if not turn.pairs.num_rows:
        return before.first_event_us
    first: int = pc.min(turn.pairs["event_us"]).as_py()
    return first if before.first_event_us is None else min(first, before.first_event_us)
