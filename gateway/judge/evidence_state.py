"""What a checkpoint's evidence says, as JSON: the histograms, every count, and what the next
pass has to know of this one.

Rules: everything is an integer and adds up. A checkpoint can be read, and the next pass
done, with nothing but the checkpoint before it and the archive.
"""

from __future__ import annotations

import msgspec

from gateway.core import evidence as core
from gateway.core.evidence import Evidence, no_evidence
from gateway.errors import InvalidInput
from gateway.ports import Checkpoint


class Accounting(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in no observation, and rows of which something was unknown; see `Counts` too.

    All but `pending` are sums over all passes.
    """

    unsampled: int = 0  # the challenger's shadow was not to see them
    late: int = 0  # read after a pass had gone past their horizon
    without_time: int = 0  # the client sent no time though the endpoint's clock is theirs
    without_entity: int = 0  # the request named none though the registration wants one
    refused: int = 0  # they lack an input that a version reads; judged as the worst that could be
    unreadable_labels: int = 0  # final labels that are no value of the task; taken as unlabelled
    pending: int = 0  # an answer is owed now: the pass stopped before the first of these


class LateRange(msgspec.Struct, frozen=True, array_like=True):
    """Frames (after, upto] of a writer were read when passes had reached `cut_us`."""

    writer: str
    after: int
    upto: int
    cut_us: int


class EvidenceState(msgspec.Struct, frozen=True, kw_only=True):
    """Where the passes of one registration have come to.

    `late` are the ranges in which late rows were found: they open no entity's window, in
    this pass or in any later one. `first_event_us` is the earliest row judged.
    """

    evidence: Evidence
    accounting: Accounting = Accounting()
    late: tuple[LateRange, ...] = ()
    first_event_us: int | None = None


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    evidence: msgspec.Raw
    accounting: Accounting
    late: tuple[LateRange, ...]
    first_event_us: int | None


def written(state: EvidenceState) -> msgspec.Raw:
    """JSON that an auditor can read without us; equal states give equal bytes."""
    body = _Written(
        msgspec.Raw(core.to_json(state.evidence)),
        state.accounting,
        state.late,
        state.first_event_us,
    )
    return msgspec.Raw(msgspec.json.encode(body))


def state_of(checkpoint: Checkpoint | None) -> EvidenceState:
    """What the checkpoint says; without one, the state that every registration begins with.

    Raises InvalidInput where the checkpoint holds no evidence of ours.
    """
    if checkpoint is None:
        return EvidenceState(evidence=no_evidence())
    try:
        body = msgspec.json.decode(checkpoint.evidence, type=_Written)
    except msgspec.DecodeError as error:
        raise InvalidInput("evidence", str(error)) from None
    return EvidenceState(
        evidence=core.from_json(body.evidence),
        accounting=body.accounting,
        late=body.late,
        first_event_us=body.first_event_us,
    )
