"""Checkpoints whose evidence says what their verdict says, as the judge would have written them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from gateway.core.evidence import SCALE, Counts, Evidence, Histogram
from gateway.judge.evidence_state import EvidenceState, written
from gateway.judge.verdicts import verdict_of
from gateway.ports import Checkpoint, Registration

_EIGHT_DAYS_US = 8 * 86_400 * 1_000_000
#: Advantage and number of the observations that the default terms call so.
_OBSERVED = {"PROMOTE": (1, 40), "REJECT": (-1, 40), "WAIT": (0, 40), "INCONCLUSIVE": (0, 2000)}


def checkpoint_of(
    registration: Registration, kind: str, *, number: int = 1, at_us: int = 1, **said: Any
) -> Checkpoint:
    """A checkpoint that says `kind`; `said` replaces parts of the verdict's words."""
    advantage, n = _OBSERVED[kind]
    values = np.full(n, advantage * SCALE, dtype=np.int64)
    state = EvidenceState(
        evidence=Evidence(
            benefit=Histogram.of(values),
            harm=Histogram.of(-values),
            counts=Counts(rows=n, entities=n, labelled=n),
        )
    )
    cut_us = registration.opened_at_us + _EIGHT_DAYS_US
    verdict = verdict_of(state, registration, cut_us=cut_us)
    assert verdict.kind == kind, verdict.reasons
    body = {**msgspec.to_builtins(verdict), **said}
    return Checkpoint(
        endpoint=registration.endpoint,
        registration=registration.number,
        number=number,
        at_us=at_us,
        cut_us=cut_us,
        covered={},
        evidence=written(state),
        verdict=msgspec.Raw(msgspec.json.encode(body)),
    )
