"""What a worker serves at one epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.rollout import AddVersion, step
from gateway.core.routes import EndpointRules
from gateway.errors import Refused
from gateway.serving.routes import Routes, Table
from tests import models
from tests.serving.scenes import Scene, challenged


def test_a_table_holds_the_versions_that_serve(tmp_path: Path) -> None:
    """Champion, challengers and, after a promotion, the one before; each with its role."""
    scene = Scene(tmp_path, {"1": models.linear(), "2": models.constant()})
    roles = {version: served.role for version, served in scene.table.versions.items()}
    assert roles == {"1": "champion", "2": "challenger"}
    scene.promote("2")
    roles = {version: served.role for version, served in scene.table.versions.items()}
    assert roles == {"2": "champion", "1": "previous"}
    scene.close()


def test_one_version_for_all_needs_no_hash(tmp_path: Path) -> None:
    """`only` is set while one version has the whole split, and its propensity is whole."""
    scene = Scene(tmp_path, {"1": models.linear(), "2": models.constant()})
    assert scene.table.only is scene.table.versions["1"]
    assert scene.table.only.propensity_bp == 10_000
    scene.split(v1=9000, v2=1000)
    assert scene.table.only is None
    assert [scene.table.versions[v].propensity_bp for v in "12"] == [9000, 1000]
    scene.close()


def test_clients_may_send_what_any_known_version_reads(tmp_path: Path) -> None:
    """Also a version that is only known: clients change before a challenger comes."""
    scene = Scene(tmp_path, {"1": models.linear()}, EndpointRules(allow_missing=("a",)))
    coming = models.facts_in(scene.root, "demo", "2", models.pair())
    scene.serve(step(scene.rollout, AddVersion(coming)))
    assert {name: spec.allow_missing for name, spec in scene.table.inputs.items()} == {
        "x": False,
        "a": True,
        "b": False,
    }
    assert list(scene.table.versions) == ["1"]
    scene.close()


def test_rows_are_counted_only_where_every_input_has_them(tmp_path: Path) -> None:
    """A fixed first dimension counts nothing: the request is one row."""
    batched = Scene(tmp_path / "a", {"1": models.linear()})
    single = Scene(tmp_path / "b", {"1": models.one_row_only()})
    assert batched.table.batched
    assert not single.table.batched
    batched.close()
    single.close()


def test_versions_that_read_one_input_differently_cannot_be_served(tmp_path: Path) -> None:
    """One request has to feed all of them, so the table is never made."""
    facts = [
        models.facts_in(tmp_path, "demo", "1", models.identity("FP32")),
        models.facts_in(tmp_path, "demo", "2", models.identity("FP64")),
    ]
    loaded = {one.digest: models.loaded(tmp_path, one) for one in facts}
    with pytest.raises(Refused, match="input x"):
        Table(challenged(facts, EndpointRules()), loaded)


def test_a_swap_leaves_the_mapping_of_others_alone(tmp_path: Path) -> None:
    """Whoever holds the old mapping still sees the old table."""
    scene = Scene(tmp_path, {"1": models.linear(), "2": models.constant()})
    before, table = scene.routes.tables, scene.table
    scene.promote("2")
    assert before["demo"] is table
    assert scene.routes.tables["demo"] is not table
    assert Routes().tables == {}
    scene.close()
