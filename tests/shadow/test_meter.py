"""The meter: what it takes for the tax, what it leaves out, and what it does about it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from gateway.core.blocks import Schedule
from gateway.core.tax import MIN_ROUNDS, Tax
from gateway.shadow.gate import Gate
from gateway.shadow.meter import TaxMeter
from tests.archive.records import prediction, shadow

SCHEDULE = Schedule(seed=11, block_us=1_000_000, blocks=4)
FIRST = 100


class Scene:
    """A meter from the beginning of round FIRST on, a lane that works, and a worker."""

    def __init__(self, *, budget_ms: float | None = None) -> None:
        self.now_us = FIRST * SCHEDULE.round_us
        self.gate = Gate(SCHEDULE, clock_us=lambda: self.now_us)
        self.meter = TaxMeter(self.gate, budget_ms=budget_ms, now_us=self.now_us - 1)
        self.turn = FIRST
        self._random = np.random.default_rng(1)

    def round(self, *, tax_us: int = 0, worked: bool = True, **changed: Any) -> None:
        """A round of 60 requests a block, all of them slower while the shadow is on."""
        for place in range(SCHEDULE.blocks):
            start_us = self.turn * SCHEDULE.round_us + place * SCHEDULE.block_us
            is_off = SCHEDULE.block_at(start_us).is_off
            if worked and not is_off:
                self.work(start_us, start_us + 100_000)
            for number in range(60):
                elapsed_us = int(self._random.integers(200, 400)) + tax_us * (not is_off)
                self.answered(start_us + number * 15_000, elapsed_us, **changed)
        self.turn += 1
        self.now_us = (self.turn + 1) * SCHEDULE.round_us
        self.meter.step(self.now_us)

    def work(self, begin_us: int, end_us: int) -> None:
        """A lane at work."""
        self.now_us = begin_us
        with self.gate.working(threading.Event()):
            self.now_us = end_us

    def answered(self, at_us: int, elapsed_us: int | None, **changed: Any) -> None:
        """A request that the meter is shown."""
        facts = {"accepted_at_us": at_us, "elapsed_us": elapsed_us, **changed}
        self.meter(prediction("p", **facts))

    def rounds(self) -> int:
        """How many rounds count so far."""
        found = self.meter.report_of("flights")
        assert found is not None
        return int(found["rounds"])

    def tax(self) -> Tax | None:
        """What is known."""
        return self.meter.taxes.get("flights")


def test_a_tax_is_found_from_the_records() -> None:
    """After enough rounds, and with them as its n."""
    scene = Scene()
    for _ in range(MIN_ROUNDS - 1):
        scene.round(tax_us=2_000)
    assert scene.tax() is None
    scene.round(tax_us=2_000)
    tax = scene.tax()
    assert tax is not None and tax.rounds == MIN_ROUNDS
    assert 1.9 <= tax.lower_ms <= tax.difference_ms <= tax.upper_ms <= 2.1
    assert tax.requests_on == 3 * tax.requests_off == 3 * 60 * MIN_ROUNDS


def test_a_shadow_that_costs_nothing_shows_no_tax() -> None:
    """The interval has 0 in it."""
    scene = Scene()
    for _ in range(MIN_ROUNDS):
        scene.round()
    tax = scene.tax()
    assert tax is not None and tax.lower_ms <= 0 <= tax.upper_ms


@pytest.mark.parametrize(
    "changed",
    [
        {"role": "challenger"},
        {"status": "failed"},
        {"endpoint": "other"},
        {"accepted_at_us": 5},
    ],
    ids=["challenger", "failed", "other-endpoint", "before-the-first-round"],
)
def test_other_records_do_not_count(changed: dict[str, Any]) -> None:
    """Only answers of this endpoint's champion, in rounds that were watched."""
    scene = Scene()
    scene.round(**changed)
    assert scene.rounds() == 0


def test_records_without_a_latency_do_not_count() -> None:
    """Those of a release that did not write it down, and those of shadow runs."""
    scene = Scene()
    scene.answered(scene.now_us, None)
    scene.meter(shadow("p"))
    scene.meter.step(scene.now_us + 9 * SCHEDULE.round_us)
    assert scene.rounds() == 0


def test_a_round_without_shadow_does_not_count() -> None:
    """Without work on and off are the same, and would pass for a shadow that costs nothing."""
    scene = Scene()
    scene.round(worked=False)
    assert scene.rounds() == 0
    scene.round()
    assert scene.rounds() == 1


def test_an_off_block_that_was_worked_through_does_not_count() -> None:
    """A run that reached into it leaves what came after its end, or nothing."""
    scene = Scene()
    block = SCHEDULE.off_block(FIRST)
    scene.work(block.start_us - 1, block.end_us)
    scene.round()
    assert scene.rounds() == 0


def test_a_round_is_closed_one_round_after_its_end() -> None:
    """Its records may be read late; until then nothing is said of it."""
    scene = Scene()
    start_us = FIRST * SCHEDULE.round_us
    scene.answered(start_us, 300)
    assert not scene.meter.step(start_us + 2 * SCHEDULE.round_us - 1)
    assert scene.meter.step(start_us + 2 * SCHEDULE.round_us)


def test_the_budget_throttles_and_lets_go_again() -> None:
    """Evidence above it halves the duty and begins a new measurement; a tax that is gone
    doubles it."""
    scene = Scene(budget_ms=1.0)
    for _ in range(MIN_ROUNDS):
        assert scene.meter.duty == 1
        scene.round(tax_us=2_000)
    assert scene.meter.duty == 0.5
    assert scene.tax() is None and scene.rounds() == 0
    scene.round(tax_us=2_000)
    assert scene.rounds() == 0, "the round under way has seen both duties"
    for _ in range(MIN_ROUNDS + 1):
        scene.round()
    assert scene.meter.duty == 1


def test_without_a_budget_nothing_is_throttled() -> None:
    """The tax is only said."""
    scene = Scene()
    for _ in range(MIN_ROUNDS + 3):
        scene.round(tax_us=50_000)
    assert scene.tax() is not None and scene.meter.duty == 1


def test_without_a_schedule_nothing_is_known() -> None:
    """The meter that is turned off says so by saying nothing."""
    meter = TaxMeter(Gate(None, clock_us=lambda: 0), budget_ms=None, now_us=0)
    meter(prediction("p", elapsed_us=5))
    assert not meter.step(10**15)
    assert meter.report_of("flights") is None


def test_the_report_names_the_schedule() -> None:
    """From which anybody can say when the shadow was off."""
    found = Scene(budget_ms=2.0).meter.report_of("flights")
    assert found == {
        "tax": None, "rounds": 0, "rounds_needed": MIN_ROUNDS, "budget_ms": 2.0, "duty": 1.0,
        "schedule": {"seed": 11, "block_us": 1_000_000, "blocks": 4},
    }  # fmt: skip
