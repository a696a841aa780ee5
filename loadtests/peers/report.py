"""The comparison as a table and as a plot."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from loadtests.peers.rounds import Standing

_OURS = "#1f6f5c"
_THEIRS = "#9aa5b1"


def table(standings: list[Standing]) -> Table:
    """One row a server, the least CPU first."""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("server")
    shown.add_column("version")
    for heading in ("n", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "memory MB"):
        shown.add_column(heading, justify="right")
    for one in by_cpu(standings):
        shown.add_row(
            one.name,
            one.version,
            f"{one.requests:,}",
            f"{one.requests_per_s:,.0f}",
            f"{one.p50_ms:.2f}",
            f"{one.p99_ms:.2f}",
            f"{one.cpu_us:,.0f}",
            f"{one.pss_mb:,.0f}",
        )
    return shown


def by_cpu(standings: list[Standing]) -> list[Standing]:
    """The cheapest first."""
    return sorted(standings, key=lambda one: one.cpu_us)


def plot(standings: list[Standing], title: str, path: Path) -> None:
    """Two panels of bars: CPU a request, and requests a second."""
    import matplotlib as mpl  # noqa: PLC0415 - only who plots needs it

    mpl.use("agg")
    from matplotlib import pyplot  # noqa: PLC0415 - likewise, after the backend is chosen

    ordered = by_cpu(standings)[::-1]
    names = [one.name for one in ordered]
    colours = [_OURS if name.startswith("Audition") else _THEIRS for name in names]
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 0.55 * len(names) + 1.6), sharey=True)
    measured = (
        ("CPU of all processes, µs a request (less is better)", [one.cpu_us for one in ordered]),
        ("requests a second (more is better)", [one.requests_per_s for one in ordered]),
    )
    for panel, (heading, values) in zip(panels, measured, strict=True):
        bars = panel.barh(names, values, color=colours)
        panel.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=3)
        panel.set_title(heading, fontsize=10)
        panel.spines[["top", "right", "bottom"]].set_visible(False)
        panel.set_xticks([])
        panel.margins(x=0.15)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
