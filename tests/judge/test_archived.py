"""Waiting for the archive to hold what was journalled."""

from __future__ import annotations

from pathlib import Path

import anyio
import msgspec
import pytest

from gateway.errors import StoreUnavailable
from gateway.judge.archived import wait_archived
from gateway.ports import ControlStore, EvaluatorReport
from gateway.stores.sql import open_store


def _store(folder: Path) -> ControlStore:
    return open_store(f"sqlite:///{folder / 'control.sqlite'}")


def _report(store: ControlStore, **archived: int) -> None:
    sources = {writer: {"size": 10, "archived": end} for writer, end in archived.items()}
    body = msgspec.Raw(msgspec.json.encode({"sources": sources, "problem": ""}))
    store.report_evaluator(EvaluatorReport(at_us=0, pid=1, body=body))


def test_it_returns_when_every_journal_is_archived(tmp_path: Path) -> None:
    """Also while it waits."""
    store = _store(tmp_path)
    _report(store, a=5)

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: wait_archived(store, {"a": 5, "b": 3}, within_s=30))
            await anyio.sleep(0)
            _report(store, a=5, b=4)

    anyio.run(both)


@pytest.mark.parametrize("reported", [{}, {"a": 2}])
def test_it_says_what_is_missing(tmp_path: Path, reported: dict[str, int]) -> None:
    """A silent Evaluator and one that lags both mean that something is missing."""
    store = _store(tmp_path)
    if reported:
        _report(store, **reported)
    missing = 5 - reported.get("a", 0)
    with pytest.raises(StoreUnavailable, match=f"{missing} bytes"):
        anyio.run(lambda: wait_archived(store, {"a": 5}, within_s=0))
