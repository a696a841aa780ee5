"""Whether a verdict is still about the traffic of now. A promotion fails closed."""

from __future__ import annotations

from gateway.errors import Refused
from gateway.ports import ControlStore

#: An Evaluator that lives reports several times a second.
_SILENT_AFTER_S = 60.0


def require_fresh_evidence(store: ControlStore, *, now_us: int) -> None:
    """Raise Refused where the Evaluator is silent."""
    said = store.evaluator()
    silent_s = float("inf") if said is None else (now_us - said.at_us) / 1e6
    if abs(silent_s) > _SILENT_AFTER_S:
        ago = "never reported" if said is None else f"last reported {silent_s:.0f} s ago"
        raise Refused(
            f"the Evaluator {ago}, so the verdict may be stale; see that it runs (or use --force)"
        )
