"""Before anything is served: the state folder, the first key, and what the repository says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.bootstrap.prepare import prepare
from gateway.core.access import find_key
from gateway.core.decisions import verify_decisions
from gateway.core.routes import Rollout
from gateway.errors import InvalidModel, InvalidName, InvalidSetting
from gateway.ports import ControlStore
from gateway.settings import Settings
from gateway.stores.sql import make_store
from tests import models


class Place:
    """A state folder and a model repository that nothing was made of yet."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.models = folder / "models"
        self.settings = Settings(
            state=self.state, models=self.models, admin_key="k" * 40, grpc_port=0
        )

    def put(self, endpoint: str, version: str, content: bytes) -> None:
        """A model file."""
        models.put(self.models, endpoint, version, content)

    def describe(self, endpoint: str, text: str) -> None:
        """The endpoint file."""
        (self.models / endpoint / "endpoint.yaml").write_text(text)

    def store(self) -> ControlStore:
        """What was written."""
        return make_store(self.settings.store_url)

    def rollout(self, endpoint: str = "demo") -> Rollout:
        """The endpoint now."""
        return self.store().rollout(endpoint)

    def refusal(self, kind: type[Exception] = InvalidSetting) -> str:
        """Why it cannot be prepared."""
        with pytest.raises(kind) as refused:
            prepare(self.settings)
        return str(refused.value)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place, under the umask that there was."""
    umask = os.umask(0o022)
    yield Place(tmp_path)
    os.umask(umask)


def test_nobody_else_may_read_the_state(place: Place) -> None:
    """Neither the folders nor what is written into them."""
    place.models.mkdir()
    prepare(place.settings)
    for path in (place.state, *place.state.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    folders = {path.name for path in place.state.iterdir() if path.is_dir()}
    assert folders == {"journal", "shadow", "archive", "clock", "uploads"}


def test_the_first_admin_key_is_shown_once(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no default one; what is stored is its digest."""
    settings = place.settings.model_copy(update={"admin_key": ""})
    prepare(settings)
    (shown,) = [word for word in capsys.readouterr().err.split() if word.startswith("aud_admin_")]
    (key,) = place.store().keys()
    assert find_key([key], shown) == key
    assert shown not in (place.state / "control.sqlite").read_bytes().decode("latin-1")
    prepare(settings)
    assert capsys.readouterr().err == ""
    assert place.store().keys() == [key]


def test_a_preset_admin_key_is_not_shown(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever set it knows it."""
    prepare(place.settings)
    assert capsys.readouterr() == ("", "")
    assert find_key(place.store().keys(), "k" * 40) is not None


def test_a_preset_admin_key_that_can_be_guessed_is_refused(place: Place) -> None:
    """It is the key to everything, so `x` will not do."""
    settings = place.settings.model_copy(update={"admin_key": "x" * 31})
    with pytest.raises(InvalidSetting, match="AUDITION_ADMIN_KEY: 31 characters can be guessed"):
        prepare(settings)
    assert place.store().keys() == []


def test_a_single_version_is_champion_without_a_file(place: Place) -> None:
    """Nothing has to be written to serve one model; preparing again changes nothing."""
    place.put("demo", "1", models.linear())
    prepare(place.settings)
    first = place.rollout()
    assert (first.epoch, first.phase, first.champion) == (1, "solo", "1")
    prepare(place.settings)
    assert place.rollout() == first


def test_versions_and_rules_come_from_the_repository(place: Place) -> None:
    """In epochs of their own, signed as the gateway's; a later change is one more."""
    place.put("demo", "1", models.linear())
    place.put("demo", "2", models.constant())
    place.describe("demo", "champion: 2\nslices: [carrier]\nprediction: {output: y}")
    prepare(place.settings)
    rollout = place.rollout()
    assert (rollout.epoch, rollout.champion) == (2, "2")
    assert sorted(rollout.versions) == ["1", "2"]
    assert rollout.rules.slices == ("carrier",)
    place.describe("demo", "champion: 1\nallow_pinned: true")
    prepare(place.settings)
    changed = place.rollout()
    assert (changed.epoch, changed.champion) == (3, "2"), "the rollout holds roles, not the file"
    assert changed.rules.allow_pinned
    decisions = place.store().decisions("demo")
    assert {decision.actor for decision in decisions} == {"audition"}
    assert verify_decisions(decisions, place.store().head("demo"), rollouts=None) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("champion: 9", "champion: there is no version '9'; there are: 1, 2"),
        ("", "champion is missing, and there are several versions (1, 2)"),
    ],
)
def test_the_first_champion_must_be_said_and_be_there(place: Place, text: str, said: str) -> None:
    """With the file and the key, before any model is looked at."""
    place.put("demo", "1", b"")
    place.put("demo", "2", b"")
    place.describe("demo", text)
    refusal = place.refusal()
    assert "demo/endpoint.yaml: " in refusal
    assert said in refusal


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prediction: {output: {1: z, 2: y}}", "version 1 has no output 'z'; it has y"),
        ("allow_missing: [nothing]", "no version reads a floating-point input 'nothing'"),
    ],
)
def test_a_file_that_names_what_is_not_there_is_refused(place: Place, text: str, said: str) -> None:
    """With the file and the key; and nothing of the endpoint is written."""
    place.put("demo", "1", models.linear())
    place.describe("demo", text)
    refusal = place.refusal()
    assert "demo/endpoint.yaml: " in refusal
    assert said in refusal
    assert place.store().endpoints() == []


def test_a_bad_change_of_the_file_leaves_the_rules_alone(place: Place) -> None:
    """Text of an endpoint that is served already is checked before it is committed."""
    place.put("demo", "1", models.linear())
    prepare(place.settings)
    before = place.rollout()
    place.describe("demo", "prediction: {output: score}")
    assert "prediction.output" in place.refusal()
    place.describe("demo", "sclices: [a]")
    assert "did you mean slices?" in place.refusal()
    assert place.rollout() == before


def test_a_bad_file_of_another_version_stops_nobody(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is left out, loudly; the champion is served, and a mended file is found next time."""
    place.put("demo", "1", models.linear())
    place.put("demo", "2", models.constant()[:50])
    place.describe("demo", "champion: 1")
    prepare(place.settings)
    assert "Version 2 of endpoint demo is left out: model.onnx: " in capsys.readouterr().err
    assert list(place.rollout().versions) == ["1"]
    place.put("demo", "2", models.constant())
    prepare(place.settings)
    assert sorted(place.rollout().versions) == ["1", "2"]


def test_a_champion_that_is_no_model_is_refused(place: Place) -> None:
    """There would be nobody to answer."""
    place.put("demo", "1", b"")
    assert "the file is empty" in place.refusal(InvalidModel)
    assert place.store().endpoints() == []


def test_a_folder_that_can_be_no_endpoint_is_refused(place: Place) -> None:
    """By its name; no route could reach it."""
    place.put("My Models", "1", models.linear())
    assert "endpoint 'My Models'" in place.refusal(InvalidName)


def test_a_provider_that_is_not_there_is_refused_before_anything_is_made(place: Place) -> None:
    """Where the list does not name cpu; the message says how to have it or do without it."""
    place.settings = place.settings.model_copy(update={"providers": "cuda"})
    refusal = place.refusal()
    assert refusal.startswith("AUDITION_PROVIDERS: cuda is asked for")
    assert "set cuda,cpu to fall back" in refusal
    assert not place.state.exists()


def test_a_fallback_to_the_cpu_is_said_aloud(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, before anything is served."""
    place.put("demo", "1", models.linear())
    place.settings = place.settings.model_copy(update={"providers": "cuda,cpu"})
    prepare(place.settings)
    assert "AUDITION_PROVIDERS: cuda is asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("versions: {1: {inputs: {y: f}}}", "versions.1.inputs.y: the model has no such input"),
        ("versions: {1: {outputs: {p: z}}}", "versions.1.outputs.p: the model has no output 'z'"),
        ("outputs: [z]", "outputs.z: version 1 does not answer it, only y"),
        ("inputs: {z: {datatype: FP32, shape: [-1]}}", "versions.1.inputs.x: 'x' is not declared"),
        (
            "inputs: {x: {datatype: FP64, shape: [-1, 3]}}",
            "versions.1.inputs.x: FP64 to FP32 can lose digits",
        ),
        ("prediction: {output: yy}", "did you mean y?"),
        (
            "prediction: {output: y}\nstate: {tensors: {h: o}}",
            "state.tensors.h: no version reads 'h'",
        ),
    ],
)
def test_a_mapping_that_does_not_fit_the_model_is_refused(
    place: Place, text: str, advice: str
) -> None:
    """With the file and the key, before anything is served; nothing is written."""
    place.put("demo", "1", models.linear())
    place.describe("demo", text)
    refusal = place.refusal()
    assert "demo/endpoint.yaml: " in refusal and advice in refusal
    assert place.store().endpoints() == []


def test_a_mapping_is_part_of_what_is_served(place: Place) -> None:
    """It is stored with the version, and cannot change under it."""
    place.put("demo", "1", models.linear())
    place.describe("demo", "versions: {1: {inputs: {x: features}}}")
    prepare(place.settings)
    facts = place.rollout().versions["1"]
    assert facts.signature.inputs[0].name == "features" and facts.file_digest
    prepare(place.settings)
    assert place.rollout().epoch == 1
    place.describe("demo", "versions: {1: {inputs: {x: columns}}}")
    assert "versions are immutable" in place.refusal()
