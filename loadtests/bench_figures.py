"""Figures: a number with its unit, its bar and whether it stands the bar, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.bench_rounds import Turn, median_difference, median_of, median_ratio

CPU_BAR, PLAIN_BAR, THROUGHPUT_BAR = 1.5, 10.0, 0.95
P99_RATIO_BAR, P99_ADDED_MS_BAR = 1.1, 1.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `passed` is None for one that is reported without a bar."""

    name: str
    value: float
    unit: str
    bar: str = ""
    passed: bool | None = None
    note: str = ""


def at_most(name: str, value: float, limit: float, unit: str, *, note: str = "") -> Figure:
    """A figure whose bar is above it."""
    return Figure(name, value, unit, f"<= {limit:g}", value <= limit, note)


def at_least(name: str, value: float, limit: float, unit: str, *, note: str = "") -> Figure:
    """A figure whose bar is below it."""
    return Figure(name, value, unit, f">= {limit:g}", value >= limit, note)


def given_figure(found: Mapping[str, Any]) -> Figure:
    """A figure of a benchmark that needs no server."""
    return Figure(
        found["name"], found["value"], found["unit"], found.get("bar", ""), found.get("passed")
    )


def serving_figures(turns: Sequence[Turn]) -> list[Figure]:
    """What the turns of the servers bare, bentoml, off, grpc (off again) and on amount to."""
    return [
        at_most(
            "worker CPU, shadow on / bare",
            median_ratio(turns, "on", "bare", "worker_us"),
            CPU_BAR,
            "x",
        ),
        Figure(
            "worker CPU, shadow off / bare", median_ratio(turns, "off", "bare", "worker_us"), "x"
        ),
        at_least(
            "worker CPU, plain BentoML / shadow on",
            median_ratio(turns, "bentoml", "on", "worker_us"),
            PLAIN_BAR,
            "x",
        ),
        Figure(
            "worker CPU, gRPC / REST",
            median_ratio(turns, "grpc", "off", "worker_us"),
            "x",
            note=f"{median_of(turns, 'grpc', 'worker_us'):.0f} us a request",
        ),
        _p99(turns),
        at_least(
            "throughput of one worker, shadow on / off",
            median_ratio(turns, "on", "off", "requests_per_s"),
            THROUGHPUT_BAR,
            "x",
        ),
        Figure(
            "Evaluator and runner CPU per request, shadow on",
            median_of(turns, "on", "beside_us"),
            "us",
            note="counted until it has caught up",
        ),
    ]


def _p99(turns: Sequence[Turn]) -> Figure:
    ratio = median_ratio(turns, "on", "off", "p99_ms")
    added_ms = median_difference(turns, "on", "off", "p99_ms")
    return Figure(
        "p99 that the shadow adds",
        added_ms,
        "ms",
        f"<= {P99_ADDED_MS_BAR:g} or x {P99_RATIO_BAR:g}",
        added_ms <= P99_ADDED_MS_BAR or ratio <= P99_RATIO_BAR,
        f"x {ratio:.2f}",
    )


def show(console: Console, figures: Sequence[Figure], turns: Sequence[Turn]) -> None:
    """Print the servers side by side, then every figure."""
    console.print(_servers(turns))
    console.print(_table(figures))


def _servers(turns: Sequence[Turn]) -> Table:
    table = Table(title=f"One row of JSON, 16 connections, medians of {len(turns)} turns")
    table.add_column("server")
    for heading in ("requests/s", "p50 ms", "p99 ms", "worker us", "beside us", "calibration ms"):
        table.add_column(heading, justify="right")
    for name in turns[0]:
        fields = ("requests_per_s", "p50_ms", "p99_ms", "worker_us", "beside_us")
        shown = [f"{median_of(turns, name, field):,.1f}" for field in fields]
        table.add_row(name, *shown, _calibration(turns, name))
    return table


def _calibration(turns: Sequence[Turn], name: str) -> str:
    """Median and range: figures of servers whose calibration differs cannot be compared."""
    times = [turn[name].calibration_ms for turn in turns]
    return f"{median(times):.0f} ({min(times):.0f}–{max(times):.0f})"


def _table(figures: Sequence[Figure]) -> Table:
    table = Table(title="Figures")
    for heading in ("figure", "value", "unit", "bar", "", "note"):
        table.add_column(heading, justify="right" if heading == "value" else "left")
    for figure in figures:
        table.add_row(
            figure.name, f"{figure.value:.4g}", figure.unit, figure.bar, _mark(figure), figure.note
        )
    return table


def _mark(figure: Figure) -> str:
    marks = {True: "[green]pass[/green]", False: "[red]MISS[/red]", None: ""}
    return marks[figure.passed]
