"""`audition demo`: the whole loop on real flights, told three times.

    2 against 1   clearly better                 → PROMOTE, and 2 becomes the champion
    3 against 2   the same with another seed     → never PROMOTE
    4 against 2   as bad as 1                    → REJECT for harm

Everything goes through the gateway's public interfaces; nothing here decides a verdict.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gateway.client import Client, endpoint_path
from gateway.demo.board import Board
from gateway.demo.flights import REPLAY_MONTHS, FlightRequest, load_flights, replay_requests
from gateway.demo.replay import Replay, Traffic, by_week
from gateway.demo.server import DemoServer, start
from gateway.demo.training import ENDPOINT, write_example_models
from gateway.errors import AuditionError

Document = dict[str, Any]

_CAUGHT_UP_WITHIN_S = 180.0
_ENDPOINT_FILE = Path(__file__).parent.parent.parent / "models" / "flights" / "endpoint.yaml"


def main(*, keep: bool) -> int:
    """Run the demo; 0 if the story came out as it must."""
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="audition-demo-"))
    try:
        requests = _prepare(console, folder)
        server = start(folder=folder, models=folder / "models")
    except AuditionError as error:
        console.print(f"[red]{error}")
        return 1
    try:
        failures = Story(console, server, requests).tell()
        return _report(console, failures)
    except AuditionError as error:
        console.print(f"[red]the demo stopped: {error}")
        return 1
    finally:
        _leave(console, server, folder, keep=keep)


def _prepare(console: Console, folder: Path) -> list[FlightRequest]:
    begun = time.monotonic()
    with console.status("Training the four example models on January to March 2013 …"):
        flights = load_flights()
        write_example_models(flights, directory=folder / "models", endpoint_file=_ENDPOINT_FILE)
        requests = list(replay_requests(flights.of_months(REPLAY_MONTHS)))
    console.print(
        f"Trained four models on January to March; {len(requests):,} requests of April to "
        f"July are ready ({time.monotonic() - begun:.0f} s)."
    )
    return requests


def _leave(console: Console, server: DemoServer, folder: Path, *, keep: bool) -> None:
    if keep:
        console.print(
            f"The gateway goes on at {server.url} (process {server.process.pid}):\n"
            f"  export AUDITION_URL={server.url} AUDITION_KEY={server.admin_key}\n"
            f"  audition status {ENDPOINT}\n  kill {server.process.pid}",
            highlight=False,
            soft_wrap=True,
        )
        return
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def _report(console: Console, failures: list[str]) -> int:
    for failure in failures:
        console.print(f"[red]not as it must be: {failure}")
    if not failures:
        console.print("[green]The story came out as it must.")
    return 1 if failures else 0


class Story:
    """One telling, week by week."""

    def __init__(self, console: Console, server: DemoServer, requests: list[FlightRequest]) -> None:
        self._console = console
        self._client = Client(server.url, key=server.admin_key)
        self._requests = requests
        self._traffic = Traffic()
        self._replay = Replay(
            server.url, endpoint=ENDPOINT, label_key=server.label_key, traffic=self._traffic
        )
        self._said: dict[str, set[str]] = {}
        self._promoted_in_week: int | None = None

    def tell(self) -> list[str]:
        """Replay everything; what did not come out as it must, empty if all did."""
        self._challenge("2")
        with Board(self._console, self._traffic, total=len(self._requests)) as board:
            for number, week in enumerate(by_week(self._requests), start=1):
                asyncio.run(self._replay.send(week, board.update))
                status = self._await_caught_up()
                self._remember(status)
                board.week(number, status)
                if self._promoted_in_week is None and "PROMOTE" in self._said.get("2", ()):
                    self._promoted_in_week = number
                    self._promote("2")
        self._show_decisions()
        return self._failures()

    def _challenge(self, version: str) -> None:
        self._change("PUT", "challengers", version, document={})
        self._console.print(f"Version {version} is a challenger: it runs in shadow from now on.")

    def _promote(self, version: str) -> None:
        verdict = self._status()["challengers"][0]["verdict"]
        self._change(
            "POST", "promotions", document={"version": version, "reason": "the verdict says so"}
        )
        self._console.print(f"[green]PROMOTE: version {version} is the champion now, because")
        for reason in verdict["reasons"]:
            self._console.print(f"  {reason}", highlight=False, soft_wrap=True)
        # Two at once, each with a registration and a level of its own.
        self._challenge("3")
        self._challenge("4")

    def _change(self, method: str, *parts: str, document: Document) -> Document:
        epoch = int(self._status()["epoch"])
        path = endpoint_path(ENDPOINT, *parts)
        return self._client.change(method, path, epoch=epoch, document=document)

    def _status(self) -> Document:
        return self._client.get(endpoint_path(ENDPOINT))

    def _await_caught_up(self) -> Document:
        """The status once shadow and judge have seen all that was sent."""
        asked_at = time.time()

        def has_caught_up(status: Document) -> bool:
            evaluator = status["evaluator"] or {}
            said_at = time.time() - evaluator.get("age_s", float("inf"))
            return said_at > asked_at and bool(evaluator.get("caught_up"))

        return _poll(self._status, has_caught_up)

    def _remember(self, status: Document) -> None:
        for challenger in status["challengers"]:
            kinds = self._said.setdefault(challenger["version"], set())
            kinds.add(challenger["verdict"]["kind"])

    def _show_decisions(self) -> None:
        document = self._client.get(endpoint_path(ENDPOINT, "decisions"))
        table = Table("epoch", "who", "what", "why", title=f"Decisions of {ENDPOINT}")
        for one in document["decisions"]:
            command = {k: v for k, v in one["command"].items() if k in ("type", "version")}
            what = " ".join(str(value) for value in command.values())
            table.add_row(str(one["epoch"]), one["actor"], what, one["reason"])
        self._console.print(table)
        for challenger in self._status()["challengers"]:
            verdict = challenger["verdict"]
            self._console.print(
                f"Version {challenger['version']} against {challenger['champion']}: "
                f"[bold]{verdict['kind']}[/bold], because",
                highlight=False,
            )
            for reason in verdict["reasons"]:
                self._console.print(f"  {reason}", highlight=False, soft_wrap=True)

    def _failures(self) -> list[str]:
        failures = []
        if self._promoted_in_week is None:
            failures.append("version 2 was never found better than 1")
        elif not self._answers_now("2"):
            failures.append("version 2 was promoted but does not answer")
        if "PROMOTE" in self._said.get("3", {"PROMOTE"}):
            failures.append("version 3, which differs by its seed only, was found better (or lost)")
        if "REJECT" not in self._said.get("4", ()):
            failures.append("version 4, which is as bad as 1, was not rejected")
        return failures

    def _answers_now(self, version: str) -> bool:
        last = self._requests[-1:]
        answered_by = asyncio.run(self._replay.ask(last[0]))
        self._console.print(f"A request now is answered by version {answered_by}.")
        return answered_by == version


def _poll(read: Callable[[], Document], is_done: Callable[[Document], bool]) -> Document:
    deadline = time.monotonic() + _CAUGHT_UP_WITHIN_S
    while not is_done(status := read()):
        if time.monotonic() > deadline:
            raise AuditionError(
                f"shadow and judge have not caught up in {_CAUGHT_UP_WITHIN_S:g} s; "
                f"the Evaluator says {status['evaluator']}"
            )
        time.sleep(0.05)
    return status
