"""The Evaluator over one state folder, stepped by hand: what it waits for and what it does not."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from gateway import evaluator as evaluators
from gateway.archive.tables import ArchiveReader
from gateway.bootstrap.evaluator import build_evaluator
from gateway.bootstrap.prepare import prepare
from gateway.evaluator import Evaluator, lock_state
from gateway.journal.frames import HEADER_BYTES, seal
from gateway.journal.reader import JournalTail, writer_ids
from gateway.journal.writer import JournalWriter
from gateway.judge.changes import Intent
from gateway.judge.evidence_state import state_of
from gateway.judge.operations import Operations
from gateway.ports import Registration
from gateway.runtimes.repository import ModelRepository
from gateway.settings import Settings
from gateway.stores.sql import make_store
from tests import models
from tests.archive.records import prediction, tensor
from tests.serving_process import PATIENCE_S, eventually

ENDPOINT = "flights"


class Scene:
    """A state folder with champion 1, challenger 2 and the journal of a worker."""

    def __init__(self, folder: Path) -> None:
        for version, weights in (("1", (1.0, 2.0, 3.0)), ("2", (3.0, 2.0, 1.0))):
            models.put(folder / "models", ENDPOINT, version, models.linear(weights))
        (folder / "models" / ENDPOINT / "endpoint.yaml").write_text(
            "champion: '1'\npolicy: {min_duration: 0, min_entities: 1}\nlabels: {maturity: 0}\n"
            "time_limit_ms: 1\n"
        )
        self.settings = Settings(
            state=folder / "state",
            models=folder / "models",
            flush_every_s=0.05,
            admin_key="k" * 40,
            grpc_port=0,
        )
        prepare(self.settings)
        self.store = make_store(self.settings.store_url)
        self.operations = Operations(
            self.store,
            clock_us=lambda: 1_000_000,
            live_workers=set,
            repository=ModelRepository(folder / "models"),
            acknowledge_within_s=0,
        )
        self.source = JournalWriter(folder / "state" / "journal", writer_id="a" * 12)
        self.evaluators: list[Evaluator] = []
        self.sent = 0

    def challenge(self) -> Registration:
        """Open a registration of version 2."""
        self.operations.challenge(ENDPOINT, "2", intent=self.intent())
        return self.store.registrations(ENDPOINT)[-1]

    def intent(self) -> Intent:
        epoch = self.store.rollout(ENDPOINT).epoch
        return Intent(actor="test", reason="test", expected_epoch=epoch)

    def evaluator(self) -> Evaluator:
        """A new one, as after a restart."""
        found = build_evaluator(self.settings, self.store, spans=None, stopping=threading.Event())
        self.evaluators.append(found)
        return found

    def accept(self, *, epoch: int | None = None) -> None:
        """Journal an answered request of two rows."""
        self.sent += 1
        rollout = self.store.rollout(ENDPOINT)
        self.source.append(
            prediction(
                f"{self.sent:032x}",
                epoch=rollout.epoch if epoch is None else epoch,
                digest=rollout.versions["1"].digest,
                rows=2,
                inputs=[tensor("x", models.ramp(2, 3))],
                outputs=[tensor("y", np.array([1, 2], dtype=np.float32))],
            )
        )

    def report(self) -> dict[str, Any]:
        """What the Evaluator last said."""
        said = self.store.evaluator()
        found: dict[str, Any] = {} if said is None else msgspec.json.decode(said.body)
        return found

    def archived(self) -> int:
        """How many predictions are in the archive."""
        with ArchiveReader(self.settings.state / "archive") as reader:
            query = f"SELECT DISTINCT prediction_id FROM {reader.scan('predictions', ENDPOINT)}"
            return int(reader.table(query).num_rows)

    def frames(self) -> list[Any]:
        """The shadow frames."""
        root = self.settings.state / "shadow"
        tails = [JournalTail(root / name) for name in writer_ids(root)]
        return [entry.record for tail in tails for entry in tail.drain()]

    def has_reported_all(self) -> bool:
        """Whether the last report was made after the last record."""
        said = self.report().get("sources", {}).get(self.source.writer_id, {})
        return bool(said) and said["size"] == self.source.offset

    def is_caught_up(self) -> bool:
        """What the last report says of the endpoint."""
        return bool(self.report().get("endpoints", {}).get(ENDPOINT, {}).get("caught_up"))

    def close(self) -> None:
        for evaluator in self.evaluators:
            for lane in evaluator._lanes.values():
                lane.stop()
                lane.join()
        self.source.close()


def step_until(evaluator: Evaluator, happened: Callable[[], bool]) -> None:
    """Let it go on until this has happened."""

    def stepped() -> bool:
        evaluator.step()
        return happened()

    eventually(stepped)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    found = Scene(tmp_path)
    yield found
    found.close()


def test_a_verdict_comes_while_requests_never_pause(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass waits for what was there when it began, though between reading and judging there
    is always another shadow frame that is not in the archive yet."""
    registration = scene.challenge()
    evaluator = scene.evaluator()
    flush = evaluator._intake.flush

    def flush_and_go_on(*, idle: bool) -> bool:
        flushed, done = flush(idle=idle), len(scene.frames())
        scene.accept()
        eventually(lambda: not evaluator._lanes or len(scene.frames()) > done)
        return flushed

    monkeypatch.setattr(evaluator._intake, "flush", flush_and_go_on)

    def has_judged_rows() -> bool:
        found = scene.store.checkpoints(ENDPOINT, registration.number, latest_only=True)
        return bool(found) and any(end > 0 for end in found[0].covered.values())

    step_until(evaluator, has_judged_rows)


def test_it_says_when_it_has_caught_up(scene: Scene) -> None:
    """Not before shadow, archive and judge have seen the last record."""
    scene.challenge()
    evaluator = scene.evaluator()
    for _ in range(3):
        scene.accept()
        step_until(evaluator, lambda: scene.has_reported_all() and scene.is_caught_up())
        assert scene.archived() == scene.sent
        (challenger,) = scene.report()["endpoints"][ENDPOINT]["challengers"].values()
        assert (challenger["behind_bytes"], challenger["problem"]) == (0, "")
        checkpoint = scene.store.checkpoints(ENDPOINT, 1, latest_only=True)[0]
        assert checkpoint.covered == {"a" * 12: scene.source.offset}
        assert len(scene.frames()) == scene.sent


def test_a_withdrawn_challenger_is_run_to_the_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a slow worker still accepts under it is run; then the lane ends, for good."""
    monkeypatch.setattr(evaluators, "_CLOSING_S", 1e9)
    registration = scene.challenge()
    evaluator = scene.evaluator()
    evaluator.step()
    lane = evaluator._lanes[ENDPOINT, registration.number]
    scene.operations.withdraw(ENDPOINT, "2", intent=scene.intent())
    step_until(evaluator, lambda: lane.registration.closed_epoch is not None)
    lane.join(0.2)
    scene.accept(epoch=registration.opened_epoch)
    scene.accept()
    step_until(evaluator, lambda: [r.prediction_id for r in scene.frames()] == [f"{1:032x}"])
    monkeypatch.setattr(evaluators, "_CLOSING_S", 0.0)
    step_until(evaluator, lambda: not evaluator._lanes)
    scene.accept()
    step_until(evaluator, lambda: scene.archived() == 3)
    assert len(scene.frames()) == 1
    again = scene.evaluator()
    again._cursors.catch_up()
    again.step()
    assert again._lanes == {}


def test_a_judge_that_fails_is_shown_and_stops_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive goes on, the report names the registration, and no verdict is made up."""
    registration = scene.challenge()
    evaluator = scene.evaluator()

    def fail(*_: object) -> None:
        raise RuntimeError("no memory for this query")

    monkeypatch.setattr(evaluator._judge, "judge", fail)
    scene.accept()
    said = "judge of flights/2: RuntimeError('no memory for this query')"
    step_until(evaluator, lambda: said in scene.report().get("problem", ""))
    assert scene.archived() == 1
    assert scene.store.checkpoints(ENDPOINT, registration.number) == []
    monkeypatch.undo()
    step_until(evaluator, lambda: scene.is_caught_up() and scene.report()["problem"] == "")


def test_a_journal_of_another_release_is_shown_and_stops_no_other(scene: Scene) -> None:
    """Its rows wait, which keeps the endpoint from being caught up."""
    scene.challenge()
    strange = bytearray(HEADER_BYTES) + msgspec.msgpack.encode(["z"])
    seal(strange)
    root = scene.settings.state / "journal"
    JournalWriter(root, writer_id="b" * 12).close()
    next((root / ("b" * 12)).glob("*.seg")).write_bytes(strange)
    evaluator = scene.evaluator()
    scene.accept()
    step_until(evaluator, lambda: "no record of this release" in scene.report().get("problem", ""))
    step_until(evaluator, lambda: scene.archived() == 1 and len(scene.frames()) == 1)
    assert not scene.is_caught_up()


def test_one_evaluator_holds_a_state_folder(tmp_path: Path) -> None:
    """A second waits for the first to be gone, and gives up when it is told to stop."""
    path = tmp_path / "evaluator.lock"
    program = (
        "import sys, threading; from pathlib import Path\n"
        "from gateway.evaluator import lock_state\n"
        f"lock_state(Path({str(path)!r}), stopping=threading.Event())\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout and first.stdout.readline() == b"held\n"
        stopping, found = threading.Event(), []
        second = threading.Thread(
            target=lambda: found.append(lock_state(path, stopping=stopping)), daemon=True
        )
        second.start()
        third_stopping = threading.Event()
        third_stopping.set()
        assert lock_state(path, stopping=third_stopping) is None
        assert found == []
        first.kill()
    second.join(PATIENCE_S)
    assert found and found[0] is not None


def test_an_endpoint_that_vanished_holds_up_no_other(scene: Scene) -> None:
    """Whether half of it is left in the store or nothing: it is said, and the others go on."""
    registration = scene.challenge()
    evaluator = scene.evaluator()
    with sqlite3.connect(scene.settings.state / "control.sqlite") as database:
        database.execute("INSERT INTO endpoints VALUES ('ghost', 1, 'x')")
    step_until(evaluator, lambda: "UnknownEndpoint" in scene.report().get("problem", ""))
    with sqlite3.connect(scene.settings.state / "control.sqlite") as database:
        database.execute("DELETE FROM endpoints WHERE endpoint = 'ghost'")
    step_until(evaluator, lambda: "ghost: it left the control store" in scene.report()["problem"])
    scene.accept()
    step_until(evaluator, lambda: bool(scene.store.checkpoints(ENDPOINT, registration.number)))


def test_rows_that_a_killed_worker_left_unrecorded_reach_the_verdict(scene: Scene) -> None:
    """Though it said nothing to the store, and no request came after them."""
    registration = scene.challenge()
    evaluator = scene.evaluator()
    scene.accept()

    def unrecorded() -> int | None:
        found = scene.store.checkpoints(ENDPOINT, registration.number, latest_only=True)
        return state_of(found[0]).evidence.counts.unrecorded if found else None

    step_until(evaluator, lambda: unrecorded() == 0)
    scene.source.count_unrecorded(9)
    step_until(evaluator, lambda: unrecorded() == 9)
