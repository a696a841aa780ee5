"""docs/shadow.md says what the code does: its example runs and its numbers are the code's."""

from __future__ import annotations

from gateway.core.blocks import Schedule
from gateway.core.tax import LEAST_DUTY, MIN_ROUNDS, MIN_ROWS
from gateway.shadow.meter import KEPT_ROUNDS
from tests.cli.test_status_view import TAX, with_tax
from tests.docs.pages import DOCS, blocks

PAGE = DOCS / "shadow.md"


def test_the_example_runs() -> None:
    """Whoever copies it gets no error."""
    (example,) = [block for block in blocks(PAGE) if block.language == "python"]
    exec(compile(example.text, str(PAGE), "exec"), {})


def test_the_numbers_are_those_of_the_code() -> None:
    """Blocks, rounds and limits."""
    text, schedule = " ".join(PAGE.read_text(encoding="utf-8").split()), Schedule(seed=0)
    assert (schedule.block_us, schedule.blocks) == (1_000_000, 20)
    assert f"Before {MIN_ROUNDS} rounds (five minutes of traffic) or {MIN_ROWS} requests" in text
    assert MIN_ROUNDS * schedule.round_us == 300_000_000
    assert f"the last {KEPT_ROUNDS} rounds: half an hour" in text
    assert KEPT_ROUNDS * schedule.round_us == 1_800_000_000
    assert f"one part in {round(1 / LEAST_DUTY)}" in text


def test_the_lines_are_those_of_the_status() -> None:
    """As the command writes them."""
    text = PAGE.read_text(encoding="utf-8")
    known = {
        **TAX,
        "tax": {
            "rounds": 90, "p99_off_ms": 2.05, "difference_ms": 0.11, "lower_ms": -0.02,
            "upper_ms": 0.25,
        },
    }  # fmt: skip
    unknown = {**TAX, "rounds": 3, "duty": 0.5, "budget_ms": 1.0}
    for found in (known, unknown):
        (line,) = [line.strip() for line in with_tax(found).splitlines() if "tax  " in line]
        assert line in text
