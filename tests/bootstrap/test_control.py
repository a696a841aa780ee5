"""The store of a state folder: made once, refused when it is missing, emptied or another one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.bootstrap.control import first_store, known_store
from gateway.errors import StoreUnavailable
from gateway.settings import Settings
from tests.rollouts import solo


def _settings(folder: Path) -> Settings:
    folder.mkdir(exist_ok=True)
    return Settings(state=folder, models=folder)


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def _empty(path: Path) -> None:
    _remove(path)
    sqlite3.connect(path).close()
    path.touch()


def _replace(path: Path) -> None:
    _remove(path)
    other = path.parent / "other"
    first_store(_settings(other)).close()
    shutil.copy(other / path.name, path)


@pytest.mark.parametrize("lose", [_remove, _empty, _replace])
def test_a_store_that_was_lost_is_refused_and_not_made_again(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    """Whatever is in its place; the message says both ways on, and both work."""
    settings = _settings(tmp_path / "state")
    store = first_store(settings)
    store.create(solo(versions=("1",)), actor="setup", reason="", at_us=1)
    store.close()
    path = settings.state / "control.sqlite"
    shutil.copy(path, tmp_path / "backup")
    lose(path)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"backup. To begin anew instead, remove .*-id"):
            first_store(settings)
    _remove(path)
    shutil.copy(tmp_path / "backup", path)
    restored = first_store(settings)
    assert restored.endpoints() == ["demo"]
    restored.close()
    _remove(path)
    (settings.state / "store-id").unlink()
    anew = first_store(settings)
    assert anew.endpoints() == []
    anew.close()


def test_who_only_reads_waits_for_the_store_to_come_back(tmp_path: Path) -> None:
    """A process that starts while it is away makes none, and finds it when it is there."""
    settings = _settings(tmp_path / "state")
    first_store(settings).close()
    path = settings.state / "control.sqlite"
    path.rename(tmp_path / "away")
    store = known_store(settings)
    for ask in (store.endpoints, store.change_token, store.keys):
        with pytest.raises(StoreUnavailable):
            ask()
    assert not path.exists()
    (tmp_path / "away").rename(path)
    assert store.endpoints() == [] and store.change_token() >= 0
    store.close()
