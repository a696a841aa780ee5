"""A desk as most tests of operations need it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.judge.desk import Desk
from tests.rollouts import solo, store_at


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Champion 1; versions 2 and 3 known, loaded and on the shelf."""
    store = store_at(tmp_path)
    store.create(solo(versions=("1",)), actor="setup", reason="", at_us=1)
    made = Desk(store)
    made.report()
    for version in "23":
        made.shelf.files.pop(version)
        file = tmp_path / version
        file.write_bytes(b"a model")
        made.operations.add_version("demo", version, file, intent=made.intent())
    yield made
    store.close()
