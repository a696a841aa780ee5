"""How a rehearsal looks on a terminal. Rules: as in views.py."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from gateway.cli.views import moment, plain, table_of

Document = dict[str, Any]


def rehearsal_view(found: Document) -> RenderableType:
    """What was read and run, both losses, the difference, and that it cannot promote."""
    table = table_of("", "figure", "n")
    for name, figure, n in (*_run(found), *_judged(found)):
        table.add_row(name, figure, n)
    title = (
        f"rehearsal of {plain(found['endpoint'])} version {plain(found['version'])} against "
        f"champion {plain(found['champion'])}{_range(found)}"
    )
    said = [Text(plain(one)) for one in found["result"]["assumptions"]]
    return Group(
        Text(title, style="bold"),
        Text(f"  rows: {_rows(found['rows'])}"),
        Text(f"  judged: {_parts(found['result'])}"),
        table,
        *said,
        Text(plain(found["why_not"]) + ".", style="yellow"),
    )


def _range(found: Document) -> str:
    since, until = found["since_us"], found["until_us"]
    parts = ["" if since is None else f" since {moment(since)}"]
    parts += ["" if until is None else f" until {moment(until)}"]
    return "".join(parts)


def _rows(rows: Document) -> str:
    parts = [f"{rows['read']} read", f"{rows['run']} run"]
    parts += [f"{rows['not_captured']} without inputs"] * bool(rows["not_captured"])
    parts += [f"{rows['over_limit']} over the limit"] * bool(rows["over_limit"])
    parts += [f"{n} {name.replace('_', ' ')}" for name, n in rows["excluded"].items() if n]
    return ", ".join(parts)


def _parts(result: Document) -> str:
    parts = [
        f"{result['judged']} of {result['without_labels']['challenger']['n']}",
        f"{result['labelled']} labelled",
    ]
    parts += [f"{result['not_due']} not due yet"] * bool(result["not_due"])
    parts += [f"{result['after_window']} after their window"] * bool(result["after_window"])
    unreadable = result["unreadable_labels"]
    parts += [f"{unreadable} labels that cannot be read"] * bool(unreadable)
    return ", ".join(parts)


def _run(found: Document) -> list[tuple[str, str, str]]:
    report, timed = found["result"]["without_labels"], found["run_time"]
    failures = report["challenger"]
    kinds = ("failed", "timed_out", "nonfinite", "refused")
    failed = ", ".join(f"{failures[kind]} {kind.replace('_', ' ')}" for kind in kinds)
    lines = [("failures", failed, str(failures["n"]))]
    if report["agreement"] is not None:
        agreement = f"{100 * report['agreement']:.2f}%"
        lines.append(("agreement", agreement, str(report["both_answered"])))
    if timed is not None:
        lines.append(("run time a row, in batches", f"{timed['mean_us']:.1f} µs", str(timed["n"])))
    champion, challenger = report["champion_latency"], report["challenger_latency"]
    if champion is not None and challenger is not None:
        figure = f"{challenger['p50_us']:.0f} µs (champion {champion['p50_us']:.0f} µs)"
        lines.append(("median run alone", figure, str(challenger["n"])))
    return lines


def _judged(found: Document) -> list[tuple[str, str, str]]:
    losses, difference = found["result"]["losses"], found["result"]["difference"]
    lines = []
    for role in ("champion", "challenger"):
        name = f"mean {plain(found['metric'])} loss of the {role}"
        figure = "–" if losses is None else f"{losses[role]:.4f}"
        lines.append((name, figure, "0" if losses is None else str(losses["n"])))
    if difference is None:
        return [*lines, ("advantage", "–", "0")]
    least, greatest = difference["estimate"], difference["estimate_greatest"]
    figure = f"{least:+.4f}" if least == greatest else f"{least:+.4f} to {greatest:+.4f}"
    interval = f"{difference['lower']:+.4f} to {difference['upper']:+.4f}"
    name = f"interval (levels {difference['level']:.3g} and {difference['upper_level']:.3g})"
    n = f"{difference['n']} entities"
    return [*lines, ("advantage", figure, n), (name, interval, n)]
