"""A gateway whose archive is in a store of objects, which every process opens by its URL.

The store is one of the tests' own, which can neither rename nor append; fsspec finds it by an
entry point, as it finds those of installed packages.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.archive.whole_objects import ROOT
from tests.serving_process import (
    Document,
    ServingProcess,
    eventually,
    lines,
    start_server,
)
from tests.synthetic_models import constant, write_endpoint

ENDPOINT = "elsewhere"
#: Made by hand: one prediction of each becomes a row with a label.
ROWS = 6
_REPOSITORY = Path(__file__).parents[2]


def _environment(folder: Path) -> dict[str, str]:
    """The setting, and what lets fsspec find the store in each process."""
    plugin = folder / "plugins" / "objects_for_tests-1.dist-info"
    plugin.mkdir(parents=True, exist_ok=True)
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: objects-for-tests\nVersion: 1\n")
    entry = "[fsspec.specs]\nobjects = tests.archive.whole_objects:WholeObjects\n"
    (plugin / "entry_points.txt").write_text(entry)
    paths = (str(plugin.parent), str(_REPOSITORY), os.environ.get("PYTHONPATH", ""))
    return {
        "AUDITION_ARCHIVE": "fsspec+objects://bucket/archive",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        ROOT: str(folder / "objects"),
    }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServingProcess]:
    """A champion and a challenger in shadow, whose labels are due after a second."""
    settings = {"champion": "1", "labels": {"maturity": "1s"}}
    versions = {"1": constant(0.25), "2": constant(0.75)}
    write_endpoint(tmp_path / "models", ENDPOINT, versions, settings)
    found = start_server(tmp_path, tmp_path / "models", workers=1, env=_environment(tmp_path))
    try:
        done = found.cli("challenge", ENDPOINT, "2", "--reason", "test")
        assert done.returncode == 0, done.stderr
        yield found
    finally:
        found.stop()


def test_archive_evidence_and_export_live_in_a_store_of_objects(
    server: ServingProcess, tmp_path: Path
) -> None:
    """Also past the death of the Evaluator; the state folder keeps no row of the archive."""
    labelled = _label(server, [_ask(server) for _ in range(ROWS)])
    assert set(labelled) == set(_exported(server, tmp_path))
    server.evaluator().kill()
    later = _label(server, [_ask(server) for _ in range(ROWS)])
    eventually(lambda: set(labelled + later) == set(_exported(server, tmp_path)))
    eventually(lambda: _judged(server) == 2 * ROWS)
    assert not list((server.state / "archive").rglob("*.parquet"))
    assert not (server.state / "archive" / "manifest.json").exists()
    objects = {unquote(one.name) for one in (tmp_path / "objects").iterdir()}
    assert {"bucket/archive/manifest.json", "bucket/archive/archive-id"} <= objects
    assert {one.split("/")[2] for one in objects} > {"predictions", "shadows", "labels"}


def _ask(server: ServingProcess) -> str:
    """The id of a new prediction of one row."""
    column = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}
    with server.http() as http:
        answer = http.post(f"/v2/models/{ENDPOINT}/infer", json={"inputs": [column]})
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-prediction-id"])


def _label(server: ServingProcess, ids: list[str]) -> list[str]:
    headers = {"content-type": "application/x-ndjson", **server.authorization("label")}
    rows = lines(*({"prediction_id": one, "label": 1} for one in ids))
    with server.http() as http:
        answer = http.post("/v1/labels", content=rows, headers=headers)
    assert answer.status_code == 202, answer.text
    return ids


def _exported(server: ServingProcess, folder: Path) -> list[str]:
    """The ids of the rows that an export has; none while the Evaluator is away."""
    file = folder / "table.ndjson"
    done = server.cli("export", ENDPOINT, "--format", "ndjson", "--output", str(file), role="view")
    if done.returncode != 0:
        return []
    return [json.loads(line)["prediction_id"] for line in file.read_text().splitlines()]


def _judged(server: ServingProcess) -> int:
    """How many comparisons the verdict rests on."""
    challenger: Document = server.status(ENDPOINT)["challengers"][0]
    return int((challenger.get("verdict") or {}).get("n", 0))
