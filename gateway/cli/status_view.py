"""How an endpoint's status looks on a terminal: who answers, who is in shadow, why to wait.

Rules: as in views.py. What nobody has said yet is a dash, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.cli.views import plain, share, table_of, wealth

Document = dict[str, Any]

_STYLES = {"PROMOTE": "green", "REJECT": "red", "ROLL BACK": "red", "INCONCLUSIVE": "yellow"}


def statuses_view(found: Document) -> RenderableType:
    """One endpoint's status, or those of all."""
    statuses = found.get("endpoints", [found])
    if not statuses:
        return Text("no endpoints")
    return Group(*(part for status in statuses for part in _status(status)))


def _status(status: Document) -> list[RenderableType]:
    split = "  ".join(f"{plain(v)} {share(bp)}" for v, bp in status["split_bp"].items())
    parts: list[RenderableType] = [
        Text(
            f"{plain(status['endpoint'])}  epoch {status['epoch']}  {status['phase']}  "
            f"champion {plain(status['champion']['version'])}",
            style="bold",
        ),
        Text(f"  split     {split}"),
        Text(f"  workers   {_workers(status['workers'])}"),
        Text(f"  evaluator {_evaluator(status['evaluator'])}"),
    ]
    if status["challengers"]:
        parts.append(Text(f"  tax       {_tax((status['evaluator'] or {}).get('shadow_tax'))}"))
        parts.append(_challengers(status["challengers"]))
    for challenger in status["challengers"]:
        parts += _reasons(challenger)
        parts += _without_labels(challenger)
    return parts


def _workers(everybody: Sequence[Document]) -> str:
    workers = [worker for worker in everybody if not worker["is_gone"]]
    gone = [worker for worker in everybody if worker["is_gone"]]
    lagging = [plain(worker["writer_id"]) for worker in workers if worker["is_lagging"]]
    behind = f", lagging: {', '.join(lagging)}" if lagging else ""
    problems = [plain(w["problem"]) for w in workers if w.get("problem")]
    left = [f", gone: {plain(one['writer_id'])} ({one['age_s']:.0f} s ago)" for one in gone]
    return f"{len(workers)} live{behind}{''.join(left)}" + "".join(f"; {p}" for p in problems)


def _evaluator(evaluator: Document | None) -> str:
    if evaluator is None:
        return "has not reported yet"
    return f"reported {evaluator['age_s']:.1f} s ago, {evaluator['lag_bytes']} bytes behind"


def _tax(found: Document | None) -> str:
    """What the shadow adds to the champion's p99, and what is done about it."""
    if found is None:
        return "of the shadow is not measured"
    if (tax := found["tax"]) is None:
        said = f"of the shadow is unknown yet: {found['rounds']} of {found['rounds_needed']} rounds"
    else:
        said = (
            f"the shadow adds {tax['difference_ms']:+.2f} ms to the champion's p99 of "
            f"{tax['p99_off_ms']:.2f} ms, 95% interval {tax['lower_ms']:+.2f} to "
            f"{tax['upper_ms']:+.2f} ms, n={tax['rounds']} rounds"
        )
    if found["duty"] == 1:
        return said
    return (
        f"{said}; throttled to {100 * found['duty']:g}% of its time by the budget of "
        f"{found['budget_ms']:g} ms"
    )


def _challengers(challengers: Sequence[Document]) -> Table:
    table = table_of(
        "challenger",
        "shadow",
        "verdict",
        "advantage",
        "E / needed",
        "n",
        "labelled",
        "compared",
        "lag",
    )
    for found in challengers:
        verdict = found["verdict"]
        table.add_row(
            plain(found["version"]),
            share(found["sample_bp"]),
            Text(verdict["kind"], style=_STYLES.get(verdict["kind"], "")),
            _figure(verdict.get("estimate")),
            _wealth(verdict, found.get("level")),
            str(verdict["n"]),
            _part(found.get("counts"), "labelled", of="rows"),
            _part((found.get("shadow") or {}).get("books"), "compared", of="journalled"),
            _lag(found.get("shadow")),
        )
    return table


def _reasons(challenger: Document) -> list[RenderableType]:
    reasons = challenger["verdict"].get("reasons", [])
    return [Text(f"  {plain(challenger['version'])}: {plain(reason)}") for reason in reasons]


def _without_labels(challenger: Document) -> list[RenderableType]:
    """What can be said before any label: how often the two agree, fail, and how long they take."""
    report = (challenger.get("shadow") or {}).get("label_free")
    if not report or report["agreement"] is None:
        return []
    lines = [
        f"agree on {100 * report['agreement']:.2f}% of {report['both_answered']} rows",
        *(f"{role} failed on {_failures(report[role])}" for role in ("champion", "challenger")),
        *_latencies(report["champion_latency"], report["challenger_latency"]),
    ]
    return [Text(f"  {plain(challenger['version'])}: without labels: {'; '.join(lines)}")]


def _failures(failures: Document) -> str:
    failed = sum(failures[kind] for kind in ("failed", "timed_out", "nonfinite"))
    return f"{failed} of {failures['n']}"


def _latencies(champion: Document | None, challenger: Document | None) -> list[str]:
    if champion is None or challenger is None:
        return []
    return [
        f"median run alone {champion['p50_us']:.0f} µs (champion) and "
        f"{challenger['p50_us']:.0f} µs (challenger), n={champion['n']}"
    ]


def _wealth(verdict: Document, level: float | None) -> str:
    """The evidence of the superiority gate against its threshold, both as E."""
    gates = [gate for gate in verdict.get("gates", []) if gate["name"] == "superiority"]
    needed = "–" if level is None else f"{1 / level:.4g}"
    figure = gates[0]["figure"] if gates else None
    return f"{'–' if figure is None else wealth(figure)} / {needed}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


def _part(counts: Document | None, name: str, *, of: str) -> str:
    """So many of so many; a dash where nobody has counted yet."""
    return "–" if counts is None else f"{counts.get(name, 0)}/{counts.get(of, 0)}"


def _lag(shadow: Document | None) -> str:
    if shadow is None:
        return "–"
    behind = shadow.get("behind_bytes")
    return "–" if behind is None else f"{behind} bytes"
