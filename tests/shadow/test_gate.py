"""The gate: lanes pause in off blocks and lose nothing by it, and it is known who was at work."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gateway.core.blocks import Schedule
from gateway.journal.writer import JournalWriter
from gateway.shadow.gate import Gate
from tests.archive.records import prediction
from tests.serving_process import eventually
from tests.shadow.scene import frames, open_lane
from tests.shadow.work import Stub, column

SCHEDULE = Schedule(seed=3, block_us=100_000, blocks=4)
OFF, NEXT_OFF = SCHEDULE.off_block(10), SCHEDULE.off_block(11)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us
        self.looks = 0

    def __call__(self) -> int:
        self.looks += 1
        return self.now_us


def work(gate: Gate, clock: Clock, *, begin_us: int, end_us: int) -> None:
    """A lane at work from one moment to the other."""
    clock.now_us = begin_us
    with gate.working(threading.Event()):
        clock.now_us = end_us


def test_a_lane_waits_out_an_off_block(tmp_path: Path) -> None:
    """What came in it is run behind it, in order and once."""
    clock = Clock(OFF.start_us - 1)
    lane = open_lane(tmp_path, Stub(tmp_path, "fine"), gate=Gate(SCHEDULE, clock_us=clock))
    source = JournalWriter(tmp_path / "journal", writer_id="w1")
    before = source.append(prediction("p0", inputs=[column(0)]))
    lane.start()
    eventually(lambda: lane.has_reached({"w1": before}))
    clock.now_us, clock.looks = OFF.start_us, 0
    for number in range(1, 4):
        source.append(prediction(f"p{number}", inputs=[column(number)]))
    # One look to wait, two to work: whoever has looked so often and not worked is waiting.
    eventually(lambda: clock.looks > 4)
    assert [one.prediction_id for one in frames(tmp_path)] == ["p0"]
    clock.now_us = OFF.end_us
    eventually(lambda: lane.has_reached({"w1": source.offset}))
    lane.stop()
    lane.join(20)
    assert [one.prediction_id for one in frames(tmp_path)] == ["p0", "p1", "p2", "p3"]


def test_a_pause_does_not_hold_up_the_end() -> None:
    """A lane that is told to stop stops, also in an off block."""
    gate, stopping = Gate(SCHEDULE, clock_us=lambda: OFF.start_us), threading.Event()
    stopping.set()
    assert not gate.wait(stopping)


def test_without_a_schedule_the_gate_is_open() -> None:
    """And nothing is noted of anybody's work."""
    gate = Gate(None, clock_us=lambda: OFF.start_us)
    assert gate.wait(threading.Event())
    work(gate, Clock(0), begin_us=0, end_us=9)
    assert not gate.has_worked(0)


@pytest.mark.parametrize(
    ("begin_us", "end_us", "quiet_us"),
    [
        (OFF.start_us - 20, OFF.start_us - 10, OFF.start_us),
        (OFF.start_us - 20, OFF.start_us + 10, OFF.start_us + 10),
        (OFF.start_us - 20, OFF.end_us + 10, OFF.end_us),
        (OFF.end_us, OFF.end_us + 10, OFF.start_us),
    ],
    ids=["before", "reaches-in", "through", "after"],
)
def test_quiet_begins_when_the_last_run_has_ended(
    begin_us: int, end_us: int, quiet_us: int
) -> None:
    """A run that was under way makes the beginning of an off block no pause."""
    clock = Clock(0)
    gate = Gate(SCHEDULE, clock_us=clock)
    work(gate, clock, begin_us=OFF.start_us - 90, end_us=OFF.start_us - 80)
    work(gate, clock, begin_us=begin_us, end_us=end_us)
    assert gate.quiet_from_us(10) == quiet_us


def test_a_run_that_has_not_ended_leaves_no_quiet() -> None:
    """Nobody knows yet whether it was in the off block."""
    clock = Clock(OFF.start_us - 5)
    gate = Gate(SCHEDULE, clock_us=clock)
    with gate.working(threading.Event()):
        clock.now_us = NEXT_OFF.end_us
        assert gate.quiet_from_us(10) == OFF.end_us
        assert gate.quiet_from_us(11) == NEXT_OFF.end_us


def test_a_long_run_reaches_into_every_off_block() -> None:
    """And into each round that it lasted through."""
    clock = Clock(0)
    gate = Gate(SCHEDULE, clock_us=clock)
    work(gate, clock, begin_us=OFF.start_us - 5, end_us=NEXT_OFF.start_us + 5)
    assert gate.quiet_from_us(10) == OFF.end_us
    assert gate.quiet_from_us(11) == NEXT_OFF.start_us + 5
    assert gate.has_worked(10) and gate.has_worked(11) and not gate.has_worked(12)


def test_old_rounds_are_forgotten() -> None:
    """The gate's memory does not grow with time."""
    clock = Clock(0)
    gate = Gate(SCHEDULE, clock_us=clock)
    for turn in range(100):
        block = SCHEDULE.off_block(turn)
        work(gate, clock, begin_us=block.start_us, end_us=block.start_us + 1)
    assert gate.has_worked(99) and not gate.has_worked(50)
    assert len(gate._overruns) < 30


def test_a_narrow_gate_makes_lanes_rest() -> None:
    """After work comes a rest of as long, at half of the time; a stop ends it."""
    gate = Gate(None, clock_us=lambda: 0)
    rests: list[float | None] = []

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            rests.append(timeout)
            return False

    with gate.working(Stopping()):
        pass
    gate.duty = 0.5
    with gate.working(Stopping()):
        threading.Event().wait(0.02)
    (rest_s,) = rests
    assert rest_s is not None and 0.02 <= rest_s <= 5
