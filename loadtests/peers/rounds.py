"""All servers run; each is loaded for a few seconds in turn, and the turn begins again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from loadtests.bench_processes import Running
from loadtests.bench_rounds import drive

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Round:
    """A few seconds of load on one server; its CPU is that of all its processes."""

    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class Standing:
    """The median of each figure over a server's rounds."""

    name: str
    version: str
    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    pss_mb: float


def take_turns(
    servers: Mapping[str, Running],
    settle: Mapping[str, Callable[[], None]],
    *,
    turns: int,
    seconds: float,
    progress: Progress,
) -> dict[str, list[Round]]:
    """Warm every server, then let them take turns; `settle` waits for work after the answers."""
    rounds: dict[str, list[Round]] = {name: [] for name in servers}
    for name, server in servers.items():
        progress(f"{name}, warming")
        drive(server, seconds=0.5)
    for turn in range(1, turns + 1):
        for name, server in servers.items():
            progress(f"{name}, turn {turn} of {turns}")
            rounds[name].append(_round(server, settle.get(name), seconds=seconds))
    return rounds


def standing(name: str, version: str, server: Running, rounds: list[Round]) -> Standing:
    """What a server did over all its turns; its memory is what it holds now."""

    def middle(field: str) -> float:
        return median(getattr(one, field) for one in rounds)

    return Standing(
        name=name,
        version=version,
        requests=sum(one.requests for one in rounds),
        requests_per_s=middle("requests_per_s"),
        p50_ms=middle("p50_ms"),
        p99_ms=middle("p99_ms"),
        cpu_us=middle("cpu_us"),
        pss_mb=server.whole_pss_mb(),
    )


def _round(server: Running, settle: Callable[[], None] | None, *, seconds: float) -> Round:
    before_us = server.whole_cpu_us()
    load = drive(server, seconds=seconds)
    if settle is not None:
        settle()
    return Round(
        requests=int(load["requests"]),
        requests_per_s=load["requests"] / load["took_s"],
        p50_ms=load["p50_ms"],
        p99_ms=load["p99_ms"],
        cpu_us=(server.whole_cpu_us() - before_us) / load["requests"],
    )
