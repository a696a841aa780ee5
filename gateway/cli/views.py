"""How results look on a terminal. Rules: documents in, renderables out; nothing is computed
here that a verdict could depend on. Text that came from elsewhere loses its control characters,
and no figure is shown without its n.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from math import exp, log
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

Document = dict[str, Any]

_PIPE_COLUMNS = 200


def output() -> Console:
    """Standard output: coloured on a terminal only, and wide where no terminal cuts it."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS, highlight=False)


def plain(text: object) -> str:
    """The text without control characters, so that nothing can steer the terminal."""
    return "".join(c if c.isprintable() else "·" for c in str(text))


def line_view(template: str) -> Callable[[Document], Text]:
    """A view of one line: the template filled with the document's values."""
    return lambda document: Text(
        template.format_map({name: plain(value) for name, value in document.items()}),
        overflow="ignore",
        no_wrap=True,
    )


@contextmanager
def progress_bar(name: str, total_bytes: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while a terminal is there; called with the bytes and rows done."""
    console = Console(stderr=True)
    rows_done = TextColumn("{task.fields[rows]:,} rows")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), rows_done)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(plain(name), total=total_bytes, rows=0)
        yield lambda done, rows: progress.update(task, completed=done, rows=rows)


@contextmanager
def rows_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while a terminal is there; called with the rows done and in all."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(plain(name), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def change_view(done: Document) -> RenderableType:
    """What a change came to."""
    heard = len(done["acknowledged"])
    lines = [
        Text(f"{plain(done['endpoint'])} is at epoch {done['epoch']}, served by {heard} workers")
    ]
    lines += [
        Text(
            f"registration {opened['registration']}: version {plain(opened['version'])} "
            f"must reach E ≥ {1 / opened['level']:.4g} (level {opened['level']:.3g})"
        )
        for opened in done["opened"]
    ]
    return Group(*lines)


def evidence_view(found: Document) -> RenderableType:
    """Every registration with its gates."""
    if not found["registrations"]:
        return Text("nobody has challenged yet")
    return Group(*(part for one in found["registrations"] for part in _registration(one)))


def _registration(registration: Document) -> list[RenderableType]:
    state = "open" if registration["closed_epoch"] is None else plain(registration["closed_reason"])
    parts: list[RenderableType] = [
        Text(
            f"registration {registration['number']}: version {plain(registration['version'])} "
            f"against {plain(registration['champion'])}, "
            f"level {registration['level']:.3g}, {state}",
            style="bold",
        ),
        Text(
            f"  terms {registration['digest'][:12]}, since {moment(registration['opened_at_us'])}"
        ),
    ]
    checkpoint = registration["checkpoint"]
    if checkpoint is None:
        return [*parts, Text("  WAIT: nothing has been judged yet")]
    verdict = checkpoint["verdict"]
    return [*parts, Text(f"  {plain(verdict['kind'])}"), _gates(verdict.get("gates", []))]


def _gates(gates: Sequence[Document]) -> Table:
    table = table_of("gate", "outcome", "figure", "threshold", "unit", "n")
    for gate in gates:
        figure = "–" if gate["figure"] is None else f"{gate['figure']:.4g}"
        cells = (gate["name"], gate["outcome"], figure, f"{gate['threshold']:.4g}", gate["unit"])
        table.add_row(*(plain(cell) for cell in cells), str(gate["n"]))
    return table


def decisions_view(found: Document) -> RenderableType:
    """The decision log, oldest first."""
    table = table_of("epoch", "at", "actor", "command", "reason", "hash")
    for line in found["decisions"]:
        table.add_row(
            str(line["epoch"]),
            moment(line["at_us"]),
            plain(line["actor"]),
            plain(_command(line["command"])),
            plain(line["reason"]),
            line["hash"][:12],
        )
    return table


def _command(command: Document) -> str:
    """The command with what it names, such as `promote 2 (forced)`."""
    words = [command["type"].replace("_", " ")]
    version = command.get("version") or command.get("facts", {}).get("version")
    words += [version] if version else []
    weights = command.get("weights_bp", {})
    words += [f"{name}={share(bp)}" for name, bp in weights.items()]
    if "probability_bp" in command:
        words.append(share(command["probability_bp"]))
    words += ["(forced)"] if command.get("forced") else []
    words += [f"[{_closing(one)}]" for one in command.get("closed_on", [])]
    return " ".join(words)


def _closing(closed_on: Document) -> str:
    """The checkpoint that a registration closed on, such as `1/12: PROMOTE, E = 70.4, n = 54`."""
    said = [closed_on["verdict"]]
    said += [] if closed_on["ln_e"] is None else [f"E = {wealth(closed_on['ln_e'])}"]
    said += [f"n = {closed_on['n']}"]
    return f"{closed_on['registration']}/{closed_on['checkpoint']}: {', '.join(said)}"


def wealth(log_e: float) -> str:
    """E from its logarithm, also where a float could not hold it."""
    return f"{exp(log_e):.3g}" if abs(log_e) < 700 else f"1e{log_e / log(10):+.0f}"


def versions_view(found: Document) -> RenderableType:
    """Known versions, and files that nobody added."""
    table = table_of("version", "role", "digest")
    for one in found["versions"]:
        table.add_row(plain(one["version"]), one["role"] or "–", one["digest"][:12])
    for version in found["not_added"]:
        table.add_row(plain(version), "not added", "–")
    return table


def keys_view(found: Document) -> RenderableType:
    """Names and roles."""
    table = table_of("name", "role", "endpoints", "made at")
    for key in found["keys"]:
        endpoints = ", ".join(key["endpoints"]) or "all"
        made_at = moment(key["created_at_us"])
        table.add_row(plain(key["name"]), plain(key["role"]), plain(endpoints), made_at)
    return table


def journals_view(found: Document) -> RenderableType:
    """One line a journal."""
    table = table_of("folder", "writer", "state", "bytes", "segments", "rows", "lost", "records")
    for folder, journals in found.items():
        for one in journals:
            records = ", ".join(f"{kind} {count}" for kind, count in one["records"].items())
            table.add_row(
                folder,
                plain(one["writer_id"]),
                "open" if one["alive"] else "sealed",
                str(one["size_bytes"]),
                str(one["segments"]),
                str(one["rows"]),
                str(one["lost_records"]),
                records,
            )
    return table


def share(basis_points: int) -> str:
    """Basis points as a percentage without needless zeros."""
    return f"{basis_points / 100:g}%"


def moment(at_us: int) -> str:
    """A UTC time to the second."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


def table_of(*headings: str) -> Table:
    """A table without lines, whose cells are folded and never cut."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
