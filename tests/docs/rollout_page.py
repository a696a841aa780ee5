"""The picture and the table of docs/rollout.md, drawn from the rollout's own table.

`python -m tests.docs.rollout_page` writes them into the page. Every command is tried in every
phase, on rollouts with one and with two challengers, with and without a previous champion.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from gateway.core.rollout import (
    COMMANDS,
    PHASES,
    TABLE,
    AddVersion,
    Challenge,
    Command,
    Configure,
    Promote,
    Rollback,
    Shadow,
    Split,
    Withdraw,
    step,
)
from gateway.core.routes import EndpointRules, Rollout
from gateway.errors import Refused
from tests.docs.pages import DOCS
from tests.rollouts import challenged, facts, solo

PAGE = DOCS / "rollout.md"
BEGIN, END = "<!-- generated: tests/docs/rollout_page.py -->\n", "<!-- end -->\n"


def _known() -> Rollout:
    return solo(versions=("1", "2", "3", "4", "5"))


def _rollouts() -> Iterator[Rollout]:
    for first in (_known(), step(challenged(_known(), "3"), Promote("3", forced=True))):
        champion = first.champion
        one = challenged(first, "2")
        live = Split({champion: 9_000, "2": 1_000})
        yield from (first, one, step(one, live))
        two = challenged(one, "4", registration=2)
        yield from (
            two,
            step(two, live),
            step(two, Split({champion: 8_000, "2": 1_000, "4": 1_000})),
        )


def _commands(rollout: Rollout) -> Iterator[Command]:
    yield AddVersion(facts("9"))
    yield Configure(EndpointRules())
    new = sorted(set(rollout.versions) - {rollout.champion, *rollout.challengers})[-1]
    yield Challenge(new, registration=9, registration_digest="terms", probability_bp=10_000)
    yield Withdraw("2")
    yield Shadow("2", probability_bp=0)
    yield Split({rollout.champion: 10_000})
    yield Split({rollout.champion: 5_000, "2": 5_000})
    others = [c for v, c in rollout.challengers.items() if v != "2"]
    stay = tuple(
        Challenge(c.version, registration=8, registration_digest="new", probability_bp=10_000)
        for c in others
    )
    yield Promote("2", forced=False, stay=stay)
    yield Rollback(stay=stay)


def outcomes() -> dict[tuple[str, type], list[str]]:
    """(phase, command) → the phases that it can lead to, by the table."""
    found: dict[tuple[str, type], list[str]] = {(p, c): [] for p in PHASES for c in COMMANDS}
    for rollout in _rollouts():
        for command in _commands(rollout):
            try:
                after = step(rollout, command).phase
            except Refused:
                continue
            led_to = found[rollout.phase, type(command)]
            if after not in led_to:
                led_to.append(after)
    return {key: sorted(phases, key=PHASES.index) for key, phases in found.items()}


def _name(command: type) -> str:
    tag: str = command.__struct_config__.tag  # type: ignore[attr-defined]
    return tag.replace("_", " ")


def _picture(found: dict[tuple[str, type], list[str]]) -> list[str]:
    lines = ["```mermaid", "stateDiagram-v2", "    direction LR", "    [*] --> solo"]
    for before in PHASES:
        for after in PHASES:
            commands = [c for c in COMMANDS if after in found[before, c] and before != after]
            if commands:
                lines.append(f"    {before} --> {after}: {', '.join(map(_name, commands))}")
    return [*lines, "```"]


def _table(found: dict[tuple[str, type], list[str]]) -> list[str]:
    lines = [f"| command | {' | '.join(f'in {p}' for p in PHASES)} |", "|---" * 4 + "|"]
    for command in COMMANDS:
        cells = [" or ".join(found[phase, command]) or "refused" for phase in PHASES]
        lines.append(f"| {_name(command)} | {' | '.join(cells)} |")
    return lines


def generated() -> str:
    """What must stand between the marks of the page."""
    assert set(TABLE) == set(PHASES)
    found = outcomes()
    return "\n".join(["", *_picture(found), "", *_table(found), "", ""])


def main() -> None:
    """Write it into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + generated() + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
