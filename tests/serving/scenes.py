"""Endpoints that serve real models in this process, with a journal that can be read back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.core.records import PredictionRecord
from gateway.core.rollout import AddVersion, Challenge, Promote, Split, first_rollout, step
from gateway.core.routes import EndpointRules, Rollout, VersionFacts
from gateway.journal.reader import JournalTail
from gateway.journal.writer import JournalWriter
from gateway.serving.clock import EventClock
from gateway.serving.dataplane import Call, DataPlane
from gateway.serving.routes import Routes, Table
from gateway.serving.runs import Runs
from gateway.serving.trace import Trace
from tests import models

WRITER = "0123456789ab"
TRACE = Trace("1" * 32, "2" * 16, "", sampled=False)
DEFAULTS = EndpointRules()
NOON_US = 1_700_000_000_000_000


class Scene:
    """One worker's data plane over a folder; `rules` and `contents` make its endpoint `demo`."""

    def __init__(
        self,
        folder: Path,
        contents: Mapping[str, bytes],
        rules: EndpointRules = DEFAULTS,
        *,
        serve_unrecorded: bool = False,
        threads: int = 2,
        waiting: int = 4,
        is_inline: bool = True,
    ) -> None:
        """Version 1 is champion; the others are challengers in shadow."""
        self.folder = folder
        self.root = folder / "models"
        self.journal = JournalWriter(folder / "journal", writer_id=WRITER)
        self.runs = Runs(threads=threads, waiting=waiting)
        self.routes = Routes()
        self.clock = EventClock(
            folder / "clock",
            writer_id=WRITER,
            tolerance_us=rules.clock_tolerance_s * 1_000_000,
        )
        self.sunk: list[PredictionRecord] = []
        self.dataplane = DataPlane(
            journal=self.journal,
            runs=self.runs,
            clock_of=lambda _endpoint: self.clock,
            sinks=[self.sunk.append],
            serve_unrecorded=serve_unrecorded,
        )
        facts = [
            models.facts_in(self.root, "demo", version, content, inline=is_inline)
            for version, content in contents.items()
        ]
        self.rollout = challenged(facts, rules)
        self.models = {one.digest: models.loaded(self.root, one) for one in facts}
        self.serve(self.rollout)

    @property
    def table(self) -> Table:
        """What is served now."""
        return self.routes.tables["demo"]

    def serve(self, rollout: Rollout) -> None:
        """Swap to this epoch."""
        self.rollout = rollout
        self.routes.swap(Table(rollout, self.models))

    def split(self, **weights_bp: int) -> None:
        """Share the answers, as in `split(v1=5000, v2=5000)`."""
        shares = {version[1:]: weight for version, weight in weights_bp.items()}
        self.serve(step(self.rollout, Split(shares)))

    def promote(self, version: str) -> None:
        """A new champion; the one before stays loaded."""
        self.serve(step(self.rollout, Promote(version, forced=True)))

    def records(self) -> list[PredictionRecord]:
        """Every prediction in the journal, in the order it was written."""
        entries = JournalTail(self.folder / "journal" / WRITER).drain()
        return [e.record for e in entries if isinstance(e.record, PredictionRecord)]

    def close(self) -> None:
        """Let go of the journal."""
        self.journal.close()


def challenged(facts: list[VersionFacts], rules: EndpointRules) -> Rollout:
    """The first is champion, the others are in shadow."""
    rollout = first_rollout("demo", champion=facts[0], rules=rules, salt="salt")
    for number, other in enumerate(facts[1:], start=1):
        rollout = step(rollout, AddVersion(other))
        rollout = step(
            rollout,
            Challenge(
                version=other.version,
                registration=number,
                registration_digest=f"terms-{number}",
                probability_bp=10_000,
            ),
        )
    return rollout


def call(**facts: object) -> Call:
    """A request of one row at NOON_US unless said otherwise."""
    return msgspec.structs.replace(Call(TRACE, NOON_US), **facts)
