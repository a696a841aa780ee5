"""Compare the gateway with other servers: `python -m loadtests.peers`.

The first run downloads each peer into an environment of its own, under the folder for temporary
files; later runs use it again. Everything runs on loopback and ends with the command.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from loadtests.bench_gateway import Operator
from loadtests.bench_processes import Running, Target, running
from loadtests.bench_rounds import CONNECTIONS
from loadtests.peers.models import MODELS, prepared
from loadtests.peers.report import plot, table
from loadtests.peers.rounds import Standing, standing, take_turns
from loadtests.peers.targets import ENDPOINT, Peer, Setting, gateways, peers

_SHADOWED = "Audition with a shadow"


def main() -> None:
    """Measure all of them and show the table."""
    options = _options()
    console = Console(width=None if Console().is_terminal else 120)
    with tempfile.TemporaryDirectory(prefix="audition-peers-") as name:
        with console.status("preparing the peers' environments …"):
            setting = prepared(MODELS[options.model], Path(name))
            others = peers(setting)
        standings = _compare(setting, others, options, console)
    console.print(table(standings))
    title = (
        f"{MODELS[options.model].title}, one row a request, {CONNECTIONS} connections, one worker"
    )
    console.print(f"{title}; {os.cpu_count()} cores, Python {platform.python_version()}")
    if options.plot is not None:
        plot(standings, title, options.plot)
    if options.json is not None:
        rows = [asdict(one) for one in standings]
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.peers",
        description="Compare the gateway with other model servers on this machine.",
        epilog="example: python -m loadtests.peers --turns 5 --plot peers.png",
    )
    parser.add_argument(
        "--model",
        choices=MODELS,
        default="trees",
        help="trees: small, where the server is the cost; heavy: where joining requests pays",
    )
    parser.add_argument("--turns", type=int, default=5, help="rounds of each server (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a round (2)")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="also draw the comparison")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure")
    return parser.parse_args()


def _compare(
    setting: Setting, others: list[Peer], options: argparse.Namespace, console: Console
) -> list[Standing]:
    versions = {peer.name: peer.version for peer in others}
    ours = gateways(setting)
    targets = {peer.name: peer.target for peer in others} | ours
    with console.status("starting the servers …") as status, _started(targets, setting) as servers:
        operators = {name: Operator(servers[name], ENDPOINT) for name in ours}
        operators[_SHADOWED].challenge("2")
        rounds = take_turns(
            servers,
            {name: operator.wait_caught_up for name, operator in operators.items()},
            turns=options.turns,
            seconds=options.seconds,
            progress=status.update,
        )
        return [
            standing(name, versions.get(name, "this tree"), server, rounds[name])
            for name, server in servers.items()
        ]


@contextmanager
def _started(targets: dict[str, Target], setting: Setting) -> Iterator[dict[str, Running]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(running(target, log=setting.folder / f"{target.name}.log"))
            for name, target in targets.items()
        }


if __name__ == "__main__":
    main()
