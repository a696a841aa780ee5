"""Following the store: loaded before served, the last good epoch stays, problems are said."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.rollout import (
    AddVersion,
    Challenge,
    Command,
    Withdraw,
    first_rollout,
    step,
)
from gateway.core.routes import EndpointRules, Rollout, VersionFacts
from gateway.errors import InvalidModel
from gateway.ports import WorkerReport
from gateway.runtimes.onnx import OnnxModel
from gateway.serving import watch as watching
from gateway.serving.last_good import LastGood
from gateway.serving.routes import Routes
from gateway.serving.watch import Watch
from gateway.stores.sql import SqlStore
from tests import models
from tests.rollouts import store_at
from tests.serving_process import PATIENCE_S

WRITER = "a" * 12


class Site:
    """A store and a model repository, and one worker's watch over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "models"
        self.store: SqlStore = store_at(folder)
        self.routes = Routes()
        self.loads: Counter[str] = Counter()
        self.epochs: dict[str, int] = {}
        self.preferred_provider = "cpu"
        self.providers: list[tuple[str, str, str]] = []
        self.failure: Exception | None = None
        self.watch = self.make_watch(self.routes)

    def make_watch(self, routes: Routes) -> Watch:
        """That of a worker that starts now."""
        return Watch(
            store=self.store,
            routes=routes,
            load=self._load,
            writer_id=WRITER,
            pid=7,
            host="here",
            unrecorded_rows=lambda: 3,
            show_epoch=self.epochs.__setitem__,
            preferred_provider=self.preferred_provider,
            show_provider=lambda *shown: self.providers.append(shown),
            last_good=LastGood(self.folder / "last-good"),
        )

    def _load(self, facts: VersionFacts) -> OnnxModel:
        """Count, and load as a worker does, unless something is to go wrong."""
        self.loads[facts.path] += 1
        if self.failure is not None:
            raise self.failure
        return models.loaded(self.root, facts)

    def create(self, endpoint: str) -> None:
        """A new endpoint whose champion is version 1."""
        champion = models.facts_in(self.root, endpoint, "1", models.linear())
        rollout = first_rollout(endpoint, champion=champion, rules=EndpointRules(), salt="s")
        self.store.create(rollout, actor="test", reason="", at_us=1)

    def commit(self, endpoint: str, command: Command) -> Rollout:
        """The next epoch."""
        after = step(self.store.rollout(endpoint), command)
        self.store.commit(after, command=command, actor="test", reason="", at_us=1)
        return after

    def challenge(self, endpoint: str, version: str, content: bytes) -> Rollout:
        """Add a version and challenge with it."""
        facts = models.facts_in(self.root, endpoint, version, content)
        self.commit(endpoint, AddVersion(facts))
        return self.commit(endpoint, Challenge(version, 1, "terms", 10_000))

    def served(self, endpoint: str) -> tuple[int, list[str]]:
        """Epoch and versions that the worker serves."""
        table = self.routes.tables[endpoint]
        return table.rollout.epoch, sorted(table.versions)

    def report(self) -> WorkerReport:
        """What the worker last said."""
        (report,) = self.store.workers()
        return report


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """One endpoint `demo`."""
    site = Site(tmp_path)
    site.create("demo")
    yield site
    site.store.close()


def test_a_new_epoch_is_loaded_served_and_reported(site: Site) -> None:
    """Epoch and digests are in the report, so that a flip knows who is ready."""
    site.watch.step()
    assert site.served("demo") == (1, ["1"])
    after = site.challenge("demo", "2", models.constant())
    site.watch.step()
    assert site.served("demo") == (after.epoch, ["1", "2"])
    report = site.report()
    assert (report.writer_id, report.pid, report.host) == (WRITER, 7, "here")
    assert report.epochs == site.epochs == {"demo": after.epoch}
    assert report.loaded == {"demo": sorted(facts.digest for facts in after.versions.values())}
    assert (report.problem, report.unrecorded_rows) == ("", 3)


def test_a_model_is_loaded_once_and_kept_while_it_serves(site: Site) -> None:
    """Epochs that change nothing about it do not load it again; unused ones are let go."""
    site.watch.step()
    site.challenge("demo", "2", models.constant())
    site.watch.step()
    site.commit("demo", Withdraw("2"))
    site.watch.step()
    assert site.loads == {"demo/1/model.onnx": 1, "demo/2/model.onnx": 1}
    assert site.served("demo") == (4, ["1"])
    site.commit("demo", Challenge("2", 2, "terms-2", 10_000))
    site.watch.step()
    assert site.loads["demo/2/model.onnx"] == 2, "a version out of service was kept in memory"


def test_two_versions_of_one_file_are_loaded_once(site: Site) -> None:
    """A model is known by its digest, whatever it is called."""
    site.challenge("demo", "2", models.linear())
    site.watch.step()
    assert sum(site.loads.values()) == 1
    assert site.served("demo")[1] == ["1", "2"]


def test_a_version_that_does_not_load_leaves_the_last_epoch(site: Site) -> None:
    """Other endpoints go on, and the report says which epoch is not served and why."""
    site.create("other")
    site.watch.step()
    after = site.challenge("demo", "2", models.constant())
    shutil.rmtree(site.root / "demo" / "2")
    other = site.challenge("other", "2", models.constant())
    site.watch.step()
    assert site.served("demo") == (1, ["1"])
    assert site.served("other") == (other.epoch, ["1", "2"])
    problem = site.report().problem
    assert f"endpoint demo, epoch {after.epoch}" in problem
    assert "demo/2/model.onnx cannot be read" in problem
    assert site.report().epochs == {"demo": 1, "other": other.epoch}


def test_a_changed_file_is_not_served(site: Site) -> None:
    """The bytes must be those that were inspected and registered."""
    site.watch.step()
    site.challenge("demo", "2", models.constant())
    models.put(site.root, "demo", "2", models.constant(0.9))
    site.watch.step()
    assert site.served("demo") == (1, ["1"])
    assert "versions are immutable" in site.report().problem


def test_a_bad_file_is_not_loaded_over_and_over(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each report changes the store; a failed epoch is only tried again after a while."""
    monkeypatch.setattr(watching, "RETRY_EVERY_S", 3600.0)
    site.watch.step()
    content = models.constant()
    after = site.challenge("demo", "2", content)
    shutil.rmtree(site.root / "demo" / "2")
    for _ in range(5):
        site.watch.step()
    assert site.loads["demo/2/model.onnx"] == 1
    models.put(site.root, "demo", "2", content)
    monkeypatch.setattr(watching, "RETRY_EVERY_S", 0.0)
    site.watch.step()
    assert site.served("demo") == (after.epoch, ["1", "2"])
    assert site.report().problem == ""


def test_the_next_epoch_is_tried_at_once(site: Site) -> None:
    """An operator who withdraws the broken version does not wait for a retry."""
    site.watch.step()
    site.challenge("demo", "2", models.constant())
    shutil.rmtree(site.root / "demo" / "2")
    site.watch.step()
    after = site.commit("demo", Withdraw("2"))
    site.watch.step()
    assert site.served("demo") == (after.epoch, ["1"])
    assert site.report().problem == ""


def test_without_memory_the_last_epoch_stays(site: Site) -> None:
    """Loading may fail in ways that are no errors of ours."""
    site.watch.step()
    after = site.challenge("demo", "2", models.constant())
    site.failure = MemoryError()
    site.watch.step()
    assert site.served("demo") == (1, ["1"])
    assert site.report().problem == f"endpoint demo, epoch {after.epoch}: out of memory"


def test_a_store_that_is_gone_changes_nothing_that_is_served(site: Site) -> None:
    """What was served last is served on, and what was missed is caught up with."""
    site.watch.step()
    site.store.close()
    path = site.folder / "control.sqlite"
    away = site.folder / "away.sqlite"
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.rename(away)
    path.mkdir()
    table = site.routes.tables["demo"]
    for _ in range(3):
        site.watch.step()
    assert site.routes.tables["demo"] is table
    path.rmdir()
    away.rename(path)
    after = site.challenge("demo", "2", models.constant())
    site.watch.step()
    assert site.served("demo") == (after.epoch, ["1", "2"])


def test_a_worker_that_starts_without_the_store_serves_what_was_served_last(site: Site) -> None:
    """And follows again when it is back."""
    site.watch.step()
    after = site.challenge("demo", "2", models.constant())
    site.watch.step()
    site.store.close()
    away = site.folder / "away"
    away.mkdir()
    sqlite3.connect(site.folder / "control.sqlite").execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for file in site.folder.glob("control.sqlite*"):
        file.rename(away / file.name)
    (site.folder / "control.sqlite").mkdir()
    site.routes = Routes()
    site.watch = site.make_watch(site.routes)
    site.watch.step()
    assert site.served("demo") == (after.epoch, ["1", "2"])
    (site.folder / "control.sqlite").rmdir()
    for file in away.iterdir():
        file.rename(site.folder / file.name)
    site.commit("demo", Withdraw("2"))
    site.watch.step()
    assert site.served("demo") == (after.epoch + 1, ["1"])


def test_an_unexpected_error_does_not_end_the_watch(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker that stopped following would serve an old epoch for ever, and look well."""
    monkeypatch.setattr(watching, "POLL_EVERY_S", 0.0)
    monkeypatch.setattr(watching, "RETRY_EVERY_S", 0.0)
    failures = iter([ValueError("a row of another release")])
    followed = threading.Event()
    genuine = site.watch.step

    def step_once_broken() -> None:
        for failure in failures:
            raise failure
        genuine()
        followed.set()

    monkeypatch.setattr(site.watch, "step", step_once_broken)

    async def follow() -> None:
        task = asyncio.create_task(site.watch.run())
        assert await asyncio.to_thread(followed.wait, PATIENCE_S)
        task.cancel()

    asyncio.run(follow())
    assert site.served("demo") == (1, ["1"])
    assert "a row of another release" in capsys.readouterr().err


def test_a_load_that_is_refused_keeps_what_it_was_refused_for(site: Site) -> None:
    """The reason that the loader gives reaches the operator word by word."""
    site.failure = InvalidModel("no such operator")
    site.watch.step()
    assert site.routes.tables == {}
    assert site.report().problem == "endpoint demo, epoch 1: no such operator"


def test_a_version_that_runs_on_less_than_was_asked_for_is_a_problem(site: Site) -> None:
    """Said for as long as it is so, with the version; what it runs on is shown in any case."""
    site.watch.step()
    assert site.report().problem == ""
    site.preferred_provider = "cuda"
    fallen_back = site.make_watch(Routes())
    fallen_back.step()
    assert site.report().problem == "endpoint demo: version 1 runs on cpu, not on cuda"
    assert site.providers == [("demo", "1", "cpu")] * 2
