"""Waiting for the archive: as long as it lags, and no longer than allowed."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from gateway.errors import StoreUnavailable
from gateway.judge.coverage import wait_archived
from gateway.ports import EvaluatorReport
from gateway.stores.sql import SqlStore
from tests.rollouts import store_at


def say(store: SqlStore, **archived: int) -> None:
    """Let the Evaluator report how far each journal is archived."""
    body = {"sources": {name: {"size": 99, "archived": end} for name, end in archived.items()}}
    store.report_evaluator(EvaluatorReport(1, 1, msgspec.Raw(msgspec.json.encode(body))))


def test_what_is_archived_is_not_waited_for(tmp_path: Path) -> None:
    """An empty journal needs no word of the Evaluator at all."""
    store = store_at(tmp_path)
    say(store, a=10)
    wait_archived(store, {"a": 10, "empty": 0}, within_s=0)


def test_it_waits_until_the_evaluator_says_so(tmp_path: Path) -> None:
    """The report may come while somebody waits."""
    store = store_at(tmp_path)
    say(store, a=9)
    waiting = threading.Thread(
        target=wait_archived, args=(store, {"a": 10}), kwargs={"within_s": 30}
    )
    waiting.start()
    say(store, a=10)
    waiting.join(30)
    assert not waiting.is_alive()


@pytest.mark.parametrize("said", [None, {"a": 9}, {"b": 99}])
def test_a_journal_that_lags_is_named(tmp_path: Path, said: dict[str, int] | None) -> None:
    """Without the Evaluator nothing is known to be archived."""
    store = store_at(tmp_path)
    if said is not None:
        say(store, **said)
    with pytest.raises(StoreUnavailable, match="journal a after 0 s"):
        wait_archived(store, {"a": 10}, within_s=0)
