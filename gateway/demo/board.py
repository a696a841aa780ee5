"""What the demo shows while it runs: a live board on a terminal, a line a week elsewhere."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gateway.demo.replay import Traffic

Document = dict[str, Any]
_COLOURS = {"PROMOTE": "green", "REJECT": "red", "INCONCLUSIVE": "yellow", "WAIT": "cyan"}


class Board:
    """A context; inside it `update` and `week` may be called as often as one likes."""

    def __init__(self, console: Console, traffic: Traffic, *, total: int) -> None:
        self._console = console
        self._traffic = traffic
        self._status: Document = {}
        self._progress = Progress(
            TextColumn("replaying April to July 2013"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("replay", total=total)
        self._live = Live(console=console, refresh_per_second=8) if console.is_terminal else None

    def __enter__(self) -> Board:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self) -> None:
        """Show how far the traffic is."""
        self._progress.update(self._task, completed=self._traffic.requests)
        if self._live is not None:
            self._live.update(Group(self._progress, self._facts(), _verdicts(self._status)))

    def week(self, number: int, status: Document) -> None:
        """Show what the gateway says after a week, when it has caught up."""
        self._status = status
        self.update()
        if self._live is None:
            line = _week_line(number, status, self._traffic)
            self._console.print(line, highlight=False, soft_wrap=True)

    def _facts(self) -> Table:
        traffic = self._traffic
        p50, p99 = traffic.quantile_ms(0.5), traffic.quantile_ms(0.99)
        table = Table.grid(padding=(0, 3))
        table.add_row(
            f"clock {_day(traffic.clock_us)}",
            f"{traffic.requests:,} requests",
            f"{traffic.flights:,} flights",
            f"{traffic.labels:,} labels",
            "" if p50 is None or p99 is None else f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        )
        return table


def _verdicts(status: Document) -> Table:
    table = Table(
        "challenger", "against", "shadow behind", "agreement", "days judged", "advantage",
        "evidence for", "evidence against", "verdict",
    )  # fmt: skip
    for challenger in status.get("challengers", []):
        verdict = challenger["verdict"]
        shadow = challenger.get("shadow") or {}
        table.add_row(
            challenger["version"],
            str(challenger.get("champion", "")),
            f"{shadow.get('behind_bytes', 0):,} B",
            agreement(challenger),
            str(verdict["n"]),
            _signed(verdict["estimate"]),
            _evidence(verdict, "superiority"),
            _evidence(verdict, "harm"),
            f"[{_COLOURS.get(verdict['kind'], 'white')}]{verdict['kind']}",
        )
    return table


def agreement(challenger: Document) -> str:
    """The share of judged rows in which both versions gave the same class, with its n."""
    counts = challenger.get("counts") or {}
    rows = counts.get("rows", 0)
    if not rows:
        return "–"
    return f"{100 * (1 - counts['disagreements'] / rows):.1f}% of {rows:,}"


def _week_line(number: int, status: Document, traffic: Traffic) -> str:
    judged = "; ".join(
        f"{c['version']} against {c.get('champion')}: {c['verdict']['kind']} "
        f"(n={c['verdict']['n']} days, advantage {_signed(c['verdict']['estimate'])}, "
        f"for {_evidence(c['verdict'], 'superiority')}, "
        f"against {_evidence(c['verdict'], 'harm')}, agreement {agreement(c)})"
        for c in status["challengers"]
    )
    p99 = traffic.quantile_ms(0.99)
    return (
        f"week {number:2} to {_day(traffic.clock_us)}  {traffic.requests:,} requests"
        f"  {traffic.labels:,} labels  p99 {0.0 if p99 is None else p99:.1f} ms  {judged}"
    )


def _evidence(verdict: Document, name: str) -> str:
    """E beside the threshold that it must reach."""
    gate = next((one for one in verdict.get("gates", []) if one["name"] == name), None)
    if gate is None or gate["figure"] is None:
        return "–"
    return f"{math.exp(gate['figure']):.3g} of {math.exp(gate['threshold']):.3g}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


def _day(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
