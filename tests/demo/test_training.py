"""The example models: the same function as in scikit-learn, the same bytes, an honest story."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from gateway.demo.flights import INPUTS, REPLAY_MONTHS, Flights, load_flights
from gateway.demo.training import RECIPES, TrainedModel, as_frame, train

MODELS = Path(__file__).parents[2] / "models"
VERSIONS = [recipe.version for recipe in RECIPES]


@pytest.fixture(scope="module")
def flights() -> Flights:
    return load_flights()


@pytest.fixture(scope="module")
def replayed(flights: Flights) -> Flights:
    return flights.of_months(REPLAY_MONTHS)


@pytest.fixture(scope="module")
def trained(flights: Flights) -> dict[str, TrainedModel]:
    return {recipe.version: train(recipe, flights) for recipe in RECIPES}


def session_of(trained: TrainedModel) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(trained.model.SerializeToString(), options)


def probabilities(trained: TrainedModel, flights: Flights) -> NDArray[np.float32]:
    """Chance of being late by the ONNX model, shape [flights]."""
    feed: dict[str, Any] = {n: flights.inputs[n].reshape(-1, 1) for n in trained.recipe.inputs}
    (answer,) = session_of(trained).run(["probabilities"], feed)
    return np.asarray(answer)[:, 1]


def wrong(trained: TrainedModel, flights: Flights) -> NDArray[np.bool_]:
    return np.asarray((probabilities(trained, flights) >= 0.5) != flights.late)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_onnx_file_answers_as_scikit_learn(
    version: str, trained: dict[str, TrainedModel], replayed: Flights
) -> None:
    """On every flight from April to July: probabilities to 1e-6, and the same class."""
    model = trained[version]
    expected = model.pipeline.predict_proba(as_frame(replayed, model.recipe.inputs))[:, 1]
    answered = probabilities(model, replayed)
    assert np.max(np.abs(answered - expected)) < 1e-6
    assert np.array_equal(answered >= 0.5, expected >= 0.5)


@pytest.mark.parametrize("version", VERSIONS)
def test_one_row_answers_as_in_a_batch(
    version: str, trained: dict[str, TrainedModel], replayed: Flights
) -> None:
    """The batch dimension is dynamic and rows do not see each other."""
    some = replayed.where(np.arange(5))
    alone = [probabilities(trained[version], some.where(np.array([n])))[0] for n in range(5)]
    np.testing.assert_allclose(alone, probabilities(trained[version], some), atol=1e-6)


def test_requests_carry_the_union_of_what_models_read(trained: dict[str, TrainedModel]) -> None:
    """The champion does not read the departure delay; together they read every input."""
    read = {v: {i.name for i in session_of(model).get_inputs()} for v, model in trained.items()}
    assert read["1"] == set(INPUTS) - {"departure_delay"}
    assert set().union(*read.values()) == set(INPUTS)


def test_inputs_and_outputs_are_columns(trained: dict[str, TrainedModel]) -> None:
    """Each input is [rows, 1]; `probabilities` is [rows, 2]; no ZipMap is left."""
    for model in trained.values():
        session = session_of(model)
        assert all(tensor.shape == [None, 1] for tensor in session.get_inputs())
        outputs = {tensor.name: tensor.shape for tensor in session.get_outputs()}
        assert outputs == {"label": [None], "probabilities": [None, 2]}


def test_a_file_says_what_it_was_trained_on(trained: dict[str, TrainedModel]) -> None:
    """Data, rows, seed and recipe travel with the model."""
    meta = session_of(trained["2"]).get_modelmeta()
    assert "more than 15 minutes late" in meta.description
    assert meta.custom_metadata_map["trained_rows"] == "38956"
    assert meta.custom_metadata_map["seed"] == "2"
    assert "2013-03-31" in meta.custom_metadata_map["trained_on"]


def test_no_flight_of_the_replay_is_trained_on(flights: Flights) -> None:
    """Without the flights after March the same bytes come out."""
    past = flights.of_months([1, 2, 3])
    champion = RECIPES[0]
    assert train(champion, past).model == train(champion, flights).model


def test_the_stories_are_true_on_average(
    trained: dict[str, TrainedModel], replayed: Flights
) -> None:
    """2 beats 1 by far more than the minimum effect, 3 ties with 2, 4 is as bad as 1."""
    known = replayed.where(replayed.labelled)
    errors = {version: wrong(model, known).mean() for version, model in trained.items()}
    assert errors["1"] - errors["2"] > 0.1
    assert abs(errors["3"] - errors["2"]) < 0.005
    assert abs(errors["4"] - errors["1"]) < 0.005


def test_near_ties_still_differ(trained: dict[str, TrainedModel], replayed: Flights) -> None:
    """Identical models would prove nothing: 3 and 4 answer differently from 2 and 1."""
    late = {v: probabilities(model, replayed) >= 0.5 for v, model in trained.items()}
    assert np.mean(late["3"] != late["2"]) > 0.005
    assert np.mean(late["4"] != late["1"]) > 0.005


def test_the_build_script_writes_the_same_bytes_in_every_process(
    tmp_path: Path, trained: dict[str, TrainedModel]
) -> None:
    """Versions are known by their digest, so a second build must not make new ones."""
    # Hash seeds 0 and 1 order the converter's sets differently.
    builds = {seed: start_build(tmp_path / seed, hash_seed=seed) for seed in ("0", "1")}
    assert {seed: build.wait() for seed, build in builds.items()} == {"0": 0, "1": 0}
    expected = {
        f"flights/{version}/model.onnx": model.model.SerializeToString(deterministic=True)
        for version, model in trained.items()
    }
    expected["flights/endpoint.yaml"] = (MODELS / "flights" / "endpoint.yaml").read_bytes()
    assert files_of(tmp_path / "0") == files_of(tmp_path / "1") == expected


def files_of(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def start_build(directory: Path, *, hash_seed: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(MODELS / "build_flights.py"), "--output", str(directory)]
    environment = {"PYTHONHASHSEED": hash_seed}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
