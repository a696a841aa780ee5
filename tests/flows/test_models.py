"""New versions into a gateway that runs: added, challenged, compared, and never changed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.core.records import ShadowRecord
from gateway.core.tensors import from_raw
from gateway.journal.reader import JournalTail, writer_ids
from tests.flows.endpoints import GROWING
from tests.serving_process import ServingProcess, eventually
from tests.synthetic_models import logistic, write_model

Document = dict[str, Any]
INFER = f"/v2/models/{GROWING}/infer"


def ask(gateway: ServingProcess, *, hour: int = 0, **columns: float) -> Document:
    """One row with the named inputs, at this hour of the requests' own day."""
    inputs = [
        {"name": name, "shape": [1, 1], "datatype": "FP32", "data": [value]}
        for name, value in columns.items()
    ]
    with gateway.http() as http:
        answer = http.post(INFER, json={"inputs": inputs, "parameters": _at(hour)})
    assert answer.status_code == 200, answer.text
    return dict(json.loads(answer.content))


def _at(hour: int) -> Document:
    return {"occurred_at": f"2024-01-01T{hour:02}:00:00Z"}


class Grown:
    """A gateway that was given version 2 while it ran: other inputs, other output name."""

    def __init__(self, gateway: ServingProcess, folder: Path) -> None:
        self.file = write_model(folder / "two.onnx", logistic({"z": 2.0}, gives="chance"))
        self.other = write_model(folder / "other.onnx", logistic({"z": 3.0}, gives="chance"))
        self.broken = folder / "broken.onnx"
        self.broken.write_bytes(b"\x08\x08" + bytes(range(256)))
        self.added = gateway.cli(
            "models", "add", GROWING, str(self.file), "--version", "2", "--json"
        )
        self.alone = ask(gateway, x=1.0)
        self.challenged = gateway.cli("challenge", GROWING, "2", "--json")
        self.followers = gateway.followers(GROWING, json.loads(self.challenged.stdout)["epoch"])
        self.both = ask(gateway, x=1.0, z=-1.0)
        self.label = {
            "prediction_id": self.both["parameters"]["prediction_id"],
            "label": 1,
            "observed_at": "2024-01-01T00:30:00Z",
        }
        with gateway.http("label") as http:
            self.labelled = http.post("/v1/labels", json=[self.label])
        # With it the first hour is over, and with the hour what was asked in it is mature.
        self.lacking = ask(gateway, x=1.0, hour=2)


@pytest.fixture(scope="module")
def grown(gateway: ServingProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grown]:
    """Grown once, for all claims."""
    yield Grown(gateway, tmp_path_factory.mktemp("files"))


def test_an_added_version_is_known_and_answers_nobody(
    gateway: ServingProcess, grown: Grown
) -> None:
    """It is listed by the digest of its very file, without a role."""
    assert grown.added.returncode == 0, grown.added.stderr
    assert grown.alone["model_version"] == "1"
    listed = json.loads(gateway.cli("models", "list", GROWING, "--json").stdout)["versions"]
    assert [one["version"] for one in listed] == ["1", "2"]
    assert listed[1]["digest"] == sha256(grown.file.read_bytes()).hexdigest()


def test_a_version_never_changes(gateway: ServingProcess, grown: Grown) -> None:
    """Another file under a known name is refused, and the known one goes on."""
    again = gateway.cli("models", "add", GROWING, str(grown.other), "--version", "2")
    assert again.returncode == 1 and "immutable" in again.stderr
    listed = json.loads(gateway.cli("models", "list", GROWING, "--json").stdout)["versions"]
    assert listed[1]["digest"] == sha256(grown.file.read_bytes()).hexdigest()


def test_a_file_that_is_no_model_changes_nothing(gateway: ServingProcess, grown: Grown) -> None:
    """Refused with a reason; no folder of it is left, and requests are answered."""
    refused = gateway.cli("models", "add", GROWING, str(grown.broken), "--version", "3")
    assert refused.returncode == 1 and refused.stderr.strip()
    listed = json.loads(gateway.cli("models", "list", GROWING, "--json").stdout)
    assert [one["version"] for one in listed["versions"]] == ["1", "2"]
    assert listed["not_added"] == []
    assert ask(gateway, x=1.0)["model_version"] == "1"


def test_a_request_carries_what_any_version_reads(gateway: ServingProcess, grown: Grown) -> None:
    """The metadata of the endpoint is the union, that of a version its own."""
    assert grown.challenged.returncode == 0, grown.challenged.stderr
    assert len(grown.followers) == 2
    with gateway.http() as http:
        whole = json.loads(http.get(f"/v2/models/{GROWING}").content)
        own = json.loads(http.get(f"/v2/models/{GROWING}/versions/2").content)
    assert sorted(one["name"] for one in whole["inputs"]) == ["x", "z"]
    assert [one["name"] for one in own["inputs"]] == ["z"]
    assert grown.both["outputs"][0]["data"] == [pytest.approx(1 / (1 + math.exp(-1.0)))]
    assert grown.lacking["model_version"] == "1", "what only a challenger reads may be missing"


def test_the_challenger_runs_on_its_own_inputs(gateway: ServingProcess, grown: Grown) -> None:
    """What it would have answered is journalled; a request without its input is `refused`."""
    runs = eventually(lambda: _shadows(gateway, 2))
    by_id = {run.prediction_id: run for run in runs}
    ran = by_id[grown.both["parameters"]["prediction_id"]]
    assert ran.status == "ok" and [one.name for one in ran.outputs] == ["chance"]
    chance = from_raw("FP32", (1, 1), ran.outputs[0].data)
    assert chance.ravel() == pytest.approx([1 / (1 + math.exp(2.0))])
    refused = by_id[grown.lacking["parameters"]["prediction_id"]]
    assert refused.status == "refused" and "z" in refused.error


def test_each_version_is_judged_by_the_output_that_is_mapped(
    gateway: ServingProcess, grown: Grown
) -> None:
    """`score` of one and `chance` of the other are compared as what they both are."""
    assert grown.labelled.status_code == 202

    def judged() -> Document | None:
        counts = gateway.status(GROWING)["challengers"][0].get("counts")
        return counts if counts and counts["labelled"] else None

    counts = eventually(judged)
    assert counts["labelled"] == 1 and counts["disagreements"] == 1


def test_the_new_version_can_take_over_the_answers(gateway: ServingProcess, grown: Grown) -> None:
    """With all of the split it answers with its own output's name."""
    done = gateway.cli("split", GROWING, "2=10000", "--json")
    assert done.returncode == 0, done.stderr
    gateway.followers(GROWING, json.loads(done.stdout)["epoch"])
    answer = ask(gateway, x=1.0, z=1.0)
    assert answer["model_version"] == "2" and answer["parameters"]["role"] == "challenger"
    assert answer["outputs"][0]["name"] == "chance"
    back = gateway.cli("split", GROWING, "1=10000", "--json")
    assert back.returncode == 0, back.stderr
    gateway.followers(GROWING, json.loads(back.stdout)["epoch"])
    assert ask(gateway, x=1.0, z=1.0)["model_version"] == "1"


def test_a_file_changed_behind_our_back_is_not_challenged(
    gateway: ServingProcess, grown: Grown, models: Path
) -> None:
    """The digest that was added is the version; a file with another one is refused."""
    assert gateway.cli("withdraw", GROWING, "2").returncode == 0
    (models / GROWING / "2" / "model.onnx").write_bytes(grown.other.read_bytes())
    again = gateway.cli("challenge", GROWING, "2")
    assert again.returncode == 1 and "immutable" in again.stderr


def _shadows(gateway: ServingProcess, least: int) -> list[ShadowRecord] | None:
    root = gateway.state / "shadow"
    tails = [JournalTail(root / writer_id) for writer_id in writer_ids(root)]
    records = [entry.record for tail in tails for entry in tail.drain()]
    runs = [r for r in records if isinstance(r, ShadowRecord) and r.endpoint == GROWING]
    return runs if len(runs) >= least else None
