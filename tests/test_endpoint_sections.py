"""The sections that say how versions differ: their short forms, and what is refused in them."""

from __future__ import annotations

import pytest

from gateway.core.binding import Source, VersionRules
from gateway.core.routes import DeclaredInput, PredictionReading, StateRules, VersionReading
from gateway.endpoint_file import parse_endpoint_file
from gateway.errors import InvalidSetting

FULL = """
task: multiclass
inputs:
  features: {datatype: FP32, columns: [a, b]}
  image: {datatype: UINT8, shape: [-1, 8, 8]}
outputs: [scores]
prediction: {output: scores, reading: scores, classes: [ape, bee]}
state: {tensors: {h: h_out}, exchangeable: true}
versions:
  2:
    inputs:
      x: features
      y: {from: features, columns: [b, 0], lossy: true}
      z: {join: [image, {from: features, columns: [a]}]}
    outputs: {scores: probabilities}
    classes: [bee, ape]
    reading: class
    threshold: 0.4
"""


def _refusal(text: str) -> str:
    with pytest.raises(InvalidSetting) as refused:
        parse_endpoint_file(text, source="demo/endpoint.yaml")
    return str(refused.value).removeprefix("demo/endpoint.yaml: ")


def test_the_sections_become_rules_and_bindings() -> None:
    """Short forms mean the same as long ones."""
    file = parse_endpoint_file(FULL, source="x")
    rules = file.rules()
    assert rules.inputs == {
        "features": DeclaredInput("FP32", (-1, 2), ("a", "b")),
        "image": DeclaredInput("UINT8", (-1, 8, 8)),
    }
    assert rules.outputs == {"scores": ""}
    assert rules.state == StateRules({"h": "h_out"}, exchangeable=True)
    own = {"2": VersionReading("class", 0.4)}
    assert rules.prediction == PredictionReading("scores", "scores", 0.5, ("ape", "bee"), own)
    assert (rules.prediction.reading_of("2"), rules.prediction.reading_of("1")) == (
        "class",
        "scores",
    )
    assert (rules.prediction.threshold_of("2"), rules.prediction.threshold_of("1")) == (0.4, 0.5)
    assert file.version("2") == VersionRules(
        inputs={
            "x": (Source("features"),),
            "y": (Source("features", ("b", 0), lossy=True),),
            "z": (Source("image"), Source("features", ("a",))),
        },
        outputs={"scores": Source("probabilities")},
        classes=("bee", "ape"),
    )
    assert file.version("1") == VersionRules()


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ("inputs: {x: {datatyp: FP32}}", "inputs.x.datatyp", "datatype"),
        ("versions: {2: {input: {x: y}}}", "versions.2.input", "inputs"),
        ("versions: {2: {inputs: {x: {form: y}}}}", "versions.2.inputs.x.0.form", "from"),
        (
            "versions: {2: {inputs: {x: {join: [y, {from: z, colums: [a]}]}}}}",
            "versions.2.inputs.x.1.colums",
            "columns",
        ),
        ("versions: {2: {outputs: {x: {lossi: true}}}}", "versions.2.outputs.x.lossi", "lossy"),
        ("state: {tensors: {h: o}, exchangable: true}", "state.exchangable", "exchangeable"),
    ],
)  # fmt: skip
def test_a_misspelt_key_is_named_with_the_nearest(text: str, key: str, near: str) -> None:
    """At any depth, through mappings and lists."""
    assert f"{key}: no such key; did you mean {near}?" in _refusal(text)


@pytest.mark.parametrize(
    ("text", "field", "advice"),
    [
        ("inputs: {x: {datatype: FLOAT32, shape: [-1]}}", "inputs.x.datatype", "one of BOOL"),
        ("inputs: {x: {datatype: FP31, shape: [-1]}}", "inputs.x.datatype", "did you mean FP"),
        ("inputs: {x: {datatype: FP32}}", "inputs.x.shape", "name the columns"),
        ("inputs: {x: {datatype: FP32, shape: [-2]}}", "inputs.x.shape.0", "greater"),
        ("inputs: {x: {datatype: FP32, columns: [a, a]}}", "inputs.x.columns.1", "twice"),
        (
            "inputs: {x: {datatype: FP32, columns: [a, b], shape: [-1, 3]}}",
            "inputs.x.shape",
            "is [-1, 2] by its columns",
        ),
        ("versions: {2: {inputs: {x: 3}}}", "versions.2.inputs.x.0", "InputSource"),
        ("versions: {2: {inputs: {x: {join: []}}}}", "versions.2.inputs.x", "at least 1"),
        (
            "versions: {2: {inputs: {x: {join: [a], lossy: true}}}}",
            "versions.2.inputs.x",
            "`join` stands alone",
        ),
        ("prediction: {classes: [yes, no]}", "prediction.classes.0", "in quotes"),
        ("prediction: {classes: [a, a]}", "prediction.classes.1", "'a' stands twice"),
        ("prediction: {classes: [a, 1]}", "prediction.classes", "all texts or all numbers"),
        (
            "task: multiclass\nprediction: {reading: scores, classes: [a]}",
            "prediction.classes",
            "name all of them",
        ),
        ("prediction: {classes: [a, b, c]}", "prediction.classes", "no binary task"),
        ("prediction: {classes: [1.5, 2]}", "prediction.classes.0", "a whole number"),
        ("versions: {2: {classes: [a, b, a]}}", "versions.2.classes.2", "twice"),
        (
            "task: multiclass\nprediction: {reading: scores}\nversions: {a: {reading: value}}",
            "versions.a.reading",
            "class or scores",
        ),
        (
            "policy: {metric: brier}\nversions: {2: {reading: class}}",
            "policy.metric",
            "needs a versions.2.reading other than class",
        ),
        ("policy: {metric: zero_on}", "policy.metric", "did you mean zero_one?"),
        ("state: {tensors: {h: o}}", "prediction.output", "is missing"),
        ("state: {tensors: {h: o}}\nprediction: {output: o}", "prediction.output", "is state"),
        (
            "state: {tensors: {h: o, g: o}}\nprediction: {output: p}",
            "state.tensors.1",
            "'o' stands twice",
        ),
        ("state: {tensors: {}}", "state.tensors", "at least 1"),
    ],
)
def test_an_impossible_value_is_named_by_its_key(text: str, field: str, advice: str) -> None:
    """When the file is read, before any model is looked at."""
    message = _refusal(text)
    assert message.startswith(f"{field}: ")
    assert advice in message
