"""What every control store promises, tried on each that there is."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import create_engine, text

from gateway.core.decisions import verify_decisions
from gateway.core.registration import Terms
from gateway.core.rollout import AddVersion, Challenge, Withdraw, step
from gateway.core.routes import Rollout
from gateway.errors import (
    Conflict,
    CorruptStore,
    InvalidSetting,
    Refused,
    StoreUnavailable,
    UnknownEndpoint,
)
from gateway.ports import Checkpoint, EvaluatorReport, Key, Registration, WorkerReport
from gateway.stores.sql import SqlStore, make_store
from tests.rollouts import facts, solo
from tests.serving_process import PATIENCE_S

URLS: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: f"sqlite:///{folder / 'control.sqlite'}",
}


@pytest.fixture(params=sorted(URLS))
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a fresh store is."""
    return URLS[request.param](tmp_path)


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    """A fresh store with the endpoint `demo` at epoch 1."""
    opened = make_store(url)
    opened.create(solo(versions=("1",)), actor="setup", reason="first start", at_us=1)
    yield opened
    opened.close()


def _add(store: SqlStore, version: str, *, to: Rollout | None = None) -> Rollout:
    command = AddVersion(facts(version))
    after = step(store.rollout("demo") if to is None else to, command)
    store.commit(after, command=command, actor="ada", reason=f"add {version}", at_us=2)
    return after


def _registration(number: int, *, opened_epoch: int) -> Registration:
    terms = Terms(endpoint="demo", champion_digest="a", challenger_digest="b", maturity_s=7)
    return Registration(
        endpoint="demo",
        number=number,
        version="2",
        champion="1",
        terms=terms,
        digest=terms.digest(),
        level=0.05 / 3,
        opened_epoch=opened_epoch,
        opened_at_us=3,
    )


def _checkpoint(number: int, kind: str, *, registration: int = 1) -> Checkpoint:
    return Checkpoint(
        endpoint="demo",
        registration=registration,
        number=number,
        at_us=10 + number,
        cut_us=number,
        covered={"w" * 12: 1 << 40},
        evidence=msgspec.Raw(b'{"counts":{}}'),
        verdict=msgspec.Raw(msgspec.json.encode({"kind": kind})),
    )


def _challenge(store: SqlStore) -> Rollout:
    rollout = _add(store, "2")
    command = Challenge("2", registration=1, registration_digest="d", probability_bp=10_000)
    after = step(rollout, command)
    opened = [_registration(1, opened_epoch=after.epoch)]
    store.commit(after, command=command, actor="ada", reason="", at_us=3, opened=opened)
    return after


def _withdraw(store: SqlStore, rollout: Rollout, **options: Any) -> None:
    command = Withdraw("2")
    store.commit(
        step(rollout, command), command=command, actor="ada", reason="", at_us=4, **options
    )


def _run_elsewhere(url: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run Python in another process, with the store open as `store`."""
    begin = (
        "import os, signal\n"
        "from gateway.core.rollout import AddVersion, step\n"
        "from gateway.stores import statements\n"
        "from gateway.stores.sql import make_store\n"
        "from tests.rollouts import facts\n"
        f"store = make_store({url!r})\n"
        "command = AddVersion(facts('9'))\n"
        "after = step(store.rollout('demo'), command)\n"
        "def commit():\n"
        "    store.commit(after, command=command, actor='b', reason='', at_us=5)\n"
        "def die(*args, **options):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", begin + script],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_an_endpoint_is_created_once(store: SqlStore) -> None:
    """A second beginning would forget the first."""
    assert store.endpoints() == ["demo"]
    assert store.rollout("demo").epoch == 1
    with pytest.raises(Conflict, match="exists already"):
        store.create(solo(versions=("1",)), actor="setup", reason="", at_us=9)


def test_an_unknown_endpoint_is_named(store: SqlStore) -> None:
    """Reading and changing what is not there say so."""
    for read in (store.rollout, store.decisions, store.head):
        with pytest.raises(UnknownEndpoint, match="other"):
            read("other")
    with pytest.raises(UnknownEndpoint, match="epoch 7"):
        store.rollout("demo", epoch=7)
    with pytest.raises(UnknownEndpoint, match="other"):
        _add(store, "2", to=msgspec.structs.replace(solo(versions=("1",)), endpoint="other"))


def test_every_epoch_stays_readable(store: SqlStore) -> None:
    """A journalled epoch says for ever what was served at it."""
    second = _add(store, "2")
    third = _add(store, "3")
    assert store.rollout("demo") == third
    assert store.epochs() == {"demo": 3}
    assert store.rollout("demo", epoch=2) == second
    assert set(store.rollout("demo", epoch=1).versions) == {"1"}


def test_the_decision_log_says_who_did_what_and_why(store: SqlStore) -> None:
    """One line an epoch, chained by hashes up to the head."""
    _add(store, "2")
    _add(store, "3")
    log = store.decisions("demo")
    assert [line.epoch for line in log] == [1, 2, 3]
    assert [(line.actor, line.reason) for line in log[1:]] == [("ada", "add 2"), ("ada", "add 3")]
    assert log[0].command == {"type": "create"}
    assert log[2].command["facts"]["version"] == "3"
    assert verify_decisions(log, store.head("demo"), rollouts=store.rollout_digests("demo")) == []


def test_a_commit_returns_the_line_that_is_read_back(store: SqlStore) -> None:
    """What the caller is told is what stands in the log."""
    command = AddVersion(facts("2"))
    after = step(store.rollout("demo"), command)
    line = store.commit(after, command=command, actor="ada", reason="ü", at_us=2)
    assert store.decisions("demo")[-1] == line


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE epochs SET reason = 'another' WHERE epoch = 2",
        "UPDATE epochs SET rollout = replace(rollout, 'salt', 'sugar') WHERE epoch = 2",
        "DELETE FROM epochs WHERE epoch = 3",
        "DELETE FROM epochs WHERE epoch = 2",
    ],
)
def test_a_forged_log_is_seen(store: SqlStore, url: str, forgery: str) -> None:
    """Editing the database behind our back leaves a fault."""
    _add(store, "2")
    _add(store, "3")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(forgery))
    engine.dispose()
    rollouts = store.rollout_digests("demo")
    assert verify_decisions(store.decisions("demo"), store.head("demo"), rollouts=rollouts)


def test_of_two_writers_at_one_epoch_one_wins(store: SqlStore, url: str) -> None:
    """The other is told the epoch that it lost to, and nothing of it is written."""
    other = make_store(url)
    seen = other.rollout("demo")
    _add(store, "2")
    with pytest.raises(Conflict) as lost:
        _add(other, "3", to=seen)
    other.close()
    assert lost.value.epoch == 2
    assert set(store.rollout("demo").versions) == {"1", "2"}


def test_epochs_rise_by_one_however_many_write(store: SqlStore, url: str) -> None:
    """Eight writers, each wins or loses whole; the log has no gap and no double."""
    won: list[int] = []
    barrier = threading.Barrier(8)

    def write(name: str) -> None:
        mine = make_store(url)
        barrier.wait()
        for number in range(5):
            try:
                won.append(_add(mine, f"{name}-{number}").epoch)
            except Conflict as lost:
                assert lost.epoch is not None
        mine.close()

    threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = store.decisions("demo")
    assert sorted(won) == [line.epoch for line in log[1:]]
    assert [line.epoch for line in log] == list(range(1, len(log) + 1))
    assert verify_decisions(log, store.head("demo")) == []


def test_a_writer_may_not_skip_an_epoch(store: SqlStore) -> None:
    """The epoch before its own must be the stored one."""
    ahead = msgspec.structs.replace(store.rollout("demo"), epoch=2)
    with pytest.raises(Conflict) as lost:
        _add(store, "2", to=ahead)
    assert lost.value.epoch == 1


def test_another_process_sees_a_commit(store: SqlStore, url: str) -> None:
    """What it commits is here when it has answered, and the token has moved."""
    before = store.change_token()
    assert store.change_token() == before
    done = _run_elsewhere(url, "commit(); print(store.rollout('demo').epoch)")
    assert (done.returncode, done.stdout.strip()) == (0, "2"), done.stderr
    assert store.change_token() != before
    assert store.rollout("demo").epoch == 2


def test_our_own_commits_move_the_token_too(store: SqlStore) -> None:
    """A watcher and a writer may share one process."""
    before = store.change_token()
    _add(store, "2")
    assert store.change_token() != before


def test_a_commit_survives_a_kill_before_its_reply(store: SqlStore, url: str) -> None:
    """kill -9 right after the commit: it is there, whole."""
    done = _run_elsewhere(url, "commit(); die()")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert store.rollout("demo").epoch == 2
    assert verify_decisions(store.decisions("demo"), store.head("demo")) == []


@pytest.mark.parametrize("step_killed", ["append", "close"])
def test_a_kill_within_a_commit_leaves_nothing(store: SqlStore, url: str, step_killed: str) -> None:
    """kill -9 between two steps of a commit: the epoch is the old one, and writing goes on."""
    done = _run_elsewhere(url, f"statements.{step_killed} = die; commit()")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert store.rollout("demo").epoch == 1
    assert verify_decisions(store.decisions("demo"), store.head("demo")) == []
    assert _add(store, "2").epoch == 2


def test_a_registration_is_opened_and_closed_with_its_epoch(store: SqlStore) -> None:
    """Terms and level are read back exactly; closing says when and why, and only once."""
    challenged = _challenge(store)
    (opened,) = store.registrations("demo")
    assert opened == _registration(1, opened_epoch=challenged.epoch)
    assert opened.terms.digest() == opened.digest
    _withdraw(store, challenged, closed={1: "withdrawn"})
    (closed,) = store.registrations("demo")
    assert (closed.closed_epoch, closed.closed_reason) == (challenged.epoch + 1, "withdrawn")


def test_a_registration_number_is_used_once(store: SqlStore) -> None:
    """A second opening under the same number takes the whole commit with it."""
    challenged = _challenge(store)
    with pytest.raises(Conflict, match="registration 1"):
        _withdraw(store, challenged, opened=[_registration(1, opened_epoch=9)])
    assert store.rollout("demo") == challenged


@pytest.mark.parametrize("said", [[], ["WAIT"], ["PROMOTE", "WAIT"], ["REJECT"]])
def test_a_commit_without_its_verdict_is_refused(store: SqlStore, said: list[str]) -> None:
    """No checkpoint, another verdict or an outdated one: nothing is written."""
    challenged = _challenge(store)
    for number, kind in enumerate(said, start=1):
        store.add_checkpoint(_checkpoint(number, kind))
    with pytest.raises(Refused, match=said[-1] if said else "nothing yet"):
        _withdraw(store, challenged, require_verdict=(1, "PROMOTE"))
    assert store.rollout("demo") == challenged


def test_a_commit_with_its_verdict_goes_through(store: SqlStore) -> None:
    """The latest checkpoint counts, whatever earlier ones said."""
    challenged = _challenge(store)
    store.add_checkpoint(_checkpoint(1, "WAIT"))
    store.add_checkpoint(_checkpoint(2, "PROMOTE"))
    _withdraw(store, challenged, require_verdict=(1, "PROMOTE"))
    assert store.rollout("demo").epoch == challenged.epoch + 1


def test_a_verdict_on_another_registration_is_none(store: SqlStore) -> None:
    """Evidence is keyed by its registration."""
    challenged = _challenge(store)
    store.add_checkpoint(_checkpoint(1, "PROMOTE", registration=2))
    with pytest.raises(Refused, match="nothing yet"):
        _withdraw(store, challenged, require_verdict=(1, "PROMOTE"))


def test_checkpoints_follow_one_another(store: SqlStore) -> None:
    """A gap or a repetition is a conflict: two judges would be at work."""
    first, second = _checkpoint(1, "WAIT"), _checkpoint(2, "PROMOTE")
    store.add_checkpoint(first)
    for number in (1, 3):
        with pytest.raises(Conflict, match="latest one, which is 1"):
            store.add_checkpoint(_checkpoint(number, "WAIT"))
    store.add_checkpoint(second)
    assert store.checkpoints("demo", 1) == [first, second]
    assert store.checkpoints("demo", 1, latest_only=True) == [second]
    assert store.checkpoints("demo", 2) == []


def test_a_worker_is_known_by_its_last_word(store: SqlStore) -> None:
    """Reports replace one another until the worker is forgotten."""
    first = WorkerReport("a" * 12, 1, "h", 1, {"demo": 1}, {"demo": ["d1"]})
    last = WorkerReport("a" * 12, 1, "h", 2, {"demo": 2}, {"demo": ["d1", "d2"]}, "slow disk")
    other = WorkerReport("b" * 12, 2, "h", 1, {}, {})
    for report in (first, other, last):
        store.report_worker(report)
    assert store.workers() == [last, other]
    store.forget_workers(["a" * 12, "unknown"])
    assert store.workers() == [other]


def test_the_evaluator_is_known_by_its_last_word(store: SqlStore) -> None:
    """None before its first."""
    assert store.evaluator() is None
    for at_us in (1, 2):
        store.report_evaluator(EvaluatorReport(at_us, 7, msgspec.Raw(b'{"endpoints":{}}')))
    said = store.evaluator()
    assert said is not None
    assert (said.at_us, bytes(said.body)) == (2, b'{"endpoints":{}}')


def test_a_key_is_added_once(store: SqlStore) -> None:
    """Neither its name nor its digest can be taken over."""
    key = Key("ada", "0" * 64, "view", ("demo", "other"), 5)
    store.add_key(key)
    with pytest.raises(Conflict, match="ada"):
        store.add_key(msgspec.structs.replace(key, sha256="1" * 64))
    assert store.keys() == [key]


def test_what_was_committed_is_there_after_reopening(store: SqlStore, url: str) -> None:
    """Opening again neither changes nor loses anything."""
    challenged = _challenge(store)
    store.add_checkpoint(_checkpoint(1, "WAIT"))
    again = make_store(url)
    assert again.rollout("demo") == challenged
    assert again.registrations("demo") == store.registrations("demo")
    assert again.checkpoints("demo", 1) == store.checkpoints("demo", 1)
    again.close()


def test_many_can_open_a_new_store_at_once(tmp_path: Path) -> None:
    """Every worker of a first start finds no tables, and none fails for it."""
    url = URLS["sqlite"](tmp_path)
    failures: list[BaseException] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        try:
            make_store(url).close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_store_of_another_format_is_left_alone(store: SqlStore, url: str) -> None:
    """A newer release's store is not half understood."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE store_format SET format = 99"))
    engine.dispose()
    with pytest.raises(StoreUnavailable, match="format 99"):
        make_store(url)


@pytest.mark.parametrize("url", ["nonsense", "oracle://db", "sqlite://", "sqlite:///:memory:"])
def test_a_url_that_is_no_store_is_refused(url: str) -> None:
    """The message says what a store's URL looks like."""
    with pytest.raises(InvalidSetting, match="sqlite:///"):
        make_store(url)


def test_a_store_that_went_away_is_unavailable(tmp_path: Path) -> None:
    """Nothing is written into a file that was moved away, and it works when it is back."""
    folder = tmp_path / "state"
    folder.mkdir()
    store = make_store(URLS["sqlite"](folder))
    store.create(solo(versions=("1",)), actor="setup", reason="", at_us=1)
    folder.rename(tmp_path / "away")
    with pytest.raises(StoreUnavailable):
        _add(store, "2")
    with pytest.raises(StoreUnavailable):
        store.change_token()
    with pytest.raises(StoreUnavailable):
        make_store(URLS["sqlite"](folder))
    (tmp_path / "away").rename(folder)
    assert _add(store, "2").epoch == 2
    store.close()


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    """Its message keeps statements and parameters to itself."""
    (tmp_path / "control.sqlite").write_bytes(b"no database " * 1000)
    with pytest.raises(StoreUnavailable, match="not a database") as failed:
        make_store(URLS["sqlite"](tmp_path))
    assert "SELECT" not in str(failed.value)


def test_a_locked_store_is_unavailable_for_writers_and_readable(
    store: SqlStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that never ends costs the others an error, not a hang."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    monkeypatch.setattr("gateway.stores.sqlite._BUSY_TIMEOUT_S", 0.05)
    impatient = make_store(url)
    with engine.connect() as connection:
        connection.execute(text("BEGIN IMMEDIATE"))
        with pytest.raises(StoreUnavailable, match="locked"):
            _add(impatient, "2")
        assert impatient.rollout("demo").epoch == 1
        connection.execute(text("ROLLBACK"))
    engine.dispose()
    impatient.close()


def test_a_row_that_cannot_be_read_keeps_no_old_view(store: SqlStore, url: str) -> None:
    """The error of one reader must not hold its connection at the state of that moment."""
    _add(store, "2")
    other = make_store(url)
    with other._writing() as connection:
        connection.exec_driver_sql("UPDATE epochs SET command = 'x]' WHERE epoch = 2")
    with pytest.raises(CorruptStore) as kept:
        store.decisions("demo")
    with other._writing() as connection:
        connection.exec_driver_sql("UPDATE endpoints SET epoch = 7")
    assert kept.value is not None
    assert store.epochs() == {"demo": 7}
    other.close()
