"""The shadow-tax meter: the champion's latencies by block, and the throttle they ask for.

Rules: fed with every record that the Evaluator reads, read by nobody on the path of an answer.
Only rounds that this process has watched from their beginning count, and of an off block only
what came when every lane had come to rest. What is not known stays None. A change of the duty
begins a new measurement: what was seen before it says nothing of the shadow as it is now.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from gateway.core.blocks import Block
from gateway.core.records import PredictionRecord, Record
from gateway.core.tax import MIN_ROUNDS, Tax, TaxRound, estimate, histogram, next_duty
from gateway.shadow.gate import Gate

#: Half an hour: the tax is that of the traffic and the machine as they are now.
KEPT_ROUNDS = 90


class _Open(msgspec.Struct, gc=False):
    """A round of one endpoint that is not over: latencies, those of the off block with times."""

    on_us: list[int] = []
    off: list[tuple[int, int]] = []


class TaxMeter:
    """Over the gate of the process; without a schedule or before the first round it is idle."""

    def __init__(self, gate: Gate, *, budget_ms: float | None, now_us: int) -> None:
        self._gate = gate
        self._budget_ms = budget_ms
        self._schedule = gate.schedule
        self._first = 0 if gate.schedule is None else now_us // gate.schedule.round_us + 1
        self._block: Block | None = None
        self._open: dict[tuple[int, str], _Open] = {}
        self._rounds: dict[str, deque[TaxRound]] = {}
        self.taxes: dict[str, Tax | None] = {}

    @property
    def duty(self) -> float:
        """The share of its time that the shadow may work now."""
        return self._gate.duty

    def __call__(self, record: Record) -> None:
        """Take a record; only answers of a champion are looked at."""
        if self._schedule is None or not isinstance(record, PredictionRecord):
            return
        if record.elapsed_us is None or record.role != "champion" or record.status != "ok":
            return
        at_us, block = record.accepted_at_us, self._block
        if block is None or not block.start_us <= at_us < block.end_us:
            block = self._block = self._schedule.block_at(at_us)
        if block.round < self._first:
            return
        found = self._open.setdefault((block.round, record.endpoint), _Open())
        if block.is_off:
            found.off.append((at_us, record.elapsed_us))
        else:
            found.on_us.append(record.elapsed_us)

    def step(self, now_us: int) -> bool:
        """Close the rounds that are over by now; whether there were any.

        A round is closed one round after its end: by then its records have been read.
        """
        if self._schedule is None:
            return False
        last = now_us // self._schedule.round_us - 2
        due = [key for key in self._open if key[0] <= last]
        for key in due:
            self._close(*key)
        if due:
            self._first = max(self._first, last + 1)
            self._estimate()
            if self._throttle():
                # The rounds under way have seen both duties, and so will the one of this moment.
                self._first = last + 3
                self._open.clear()
        return bool(due)

    def report_of(self, endpoint: str) -> dict[str, Any] | None:
        """What is known of one endpoint; None where nothing is measured.

        The schedule is the same for all: which blocks were off follows from it.
        """
        if self._schedule is None:
            return None
        return {
            "tax": msgspec.to_builtins(self.taxes.get(endpoint)),
            "rounds": len(self._rounds.get(endpoint, ())),
            "rounds_needed": MIN_ROUNDS,
            "budget_ms": self._budget_ms,
            "duty": self._gate.duty,
            "schedule": msgspec.to_builtins(self._schedule),
        }

    def _close(self, turn: int, endpoint: str) -> None:
        found = self._open.pop((turn, endpoint))
        if not self._gate.has_worked(turn):
            return  # no shadow ran: on and off are the same thing
        quiet_us = self._gate.quiet_from_us(turn)
        off_us = [elapsed_us for at_us, elapsed_us in found.off if at_us >= quiet_us]
        if found.on_us and off_us:
            rounds = self._rounds.setdefault(endpoint, deque(maxlen=KEPT_ROUNDS))
            rounds.append(TaxRound(histogram(found.on_us), histogram(off_us)))

    def _estimate(self) -> None:
        assert self._schedule is not None
        for endpoint, rounds in self._rounds.items():
            self.taxes[endpoint] = estimate(rounds, seed=self._schedule.seed)

    def _throttle(self) -> bool:
        """Set the duty that the budget asks for; whether it is another one."""
        if self._budget_ms is None:
            return False
        duty = next_duty(self._gate.duty, list(self.taxes.values()), budget_ms=self._budget_ms)
        if duty == self._gate.duty:
            return False
        self._gate.duty = duty
        self._rounds.clear()
        self.taxes.clear()
        return True
