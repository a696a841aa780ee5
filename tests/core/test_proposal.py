"""What is guessed of a model that nobody described, and of two that differ."""

from __future__ import annotations

import pytest

from gateway.core.matching import match
from gateway.core.proposal import Found, prediction_of, propose, state_pairs
from gateway.core.tensors import Signature, TensorSpec

X = TensorSpec("x", "FP32", (-1, 4))


def _spec(name: str, datatype: str = "FP32", *shape: int) -> TensorSpec:
    return TensorSpec(name, datatype, shape or (-1,))


def _found(*outputs: TensorSpec, reads: tuple[TensorSpec, ...] = (X,), **more: object) -> Found:
    return Found(signature=Signature(reads, outputs), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "output", "task", "reading"),
    [
        (
            _found(_spec("label", "INT64"), _spec("probabilities", "FP32", -1, 2)),
            "probabilities",
            "binary",
            "probability",
        ),
        (_found(_spec("y", "FP32", -1, 2)), "y", "binary", "scores"),
        (_found(_spec("logits", "FP32", -1, 10)), "logits", "multiclass", "scores"),
        (_found(_spec("y"), squashed=("y",)), "y", "binary", "probability"),
        (_found(_spec("variable", "FP32", -1, 1)), "variable", "regression", "value"),
        (_found(_spec("kind", "BYTES"), classes=("a", "b", "c")), "kind", "multiclass", "class"),
        (_found(_spec("noise"), _spec("kind", "INT64")), "kind", "binary", "class"),
    ],
)
def test_the_prediction_is_found(found: Found, output: str, task: str, reading: str) -> None:
    """By datatype, shape and name; with a reason."""
    guess = prediction_of(found, {})
    assert (guess.spec.name, guess.task, guess.reading) == (output, task, reading)
    assert guess.because.startswith(output)


def test_state_is_no_prediction() -> None:
    """An output that has an input's datatype, shape and name but for where it stands."""
    hidden = _spec("hidden_in", "FP32", -1, 8)
    found = _found(
        _spec("hidden_out", "FP32", -1, 8), _spec("chance", "FP32", -1, 1), reads=(X, hidden)
    )
    assert state_pairs(found.signature) == {"hidden_in": "hidden_out"}
    proposal = propose(found)
    assert proposal.document["state"] == {"tensors": {"hidden_in": "hidden_out"}}
    assert proposal.document["prediction"]["output"] == "chance"
    assert state_pairs(Signature((X,), (X,))) == {}, "a model that gives its input back has none"


def test_classes_are_named_where_the_model_names_them() -> None:
    """Classes 0, 1, … go without saying; that there are no names is a doubt."""
    three = _spec("p", "FP32", -1, 3)
    assert propose(_found(three, classes=("a", "b", "c"))).document["prediction"]["classes"] == [
        "a",
        "b",
        "c",
    ]
    assert "classes" not in propose(_found(three, classes=(0, 1, 2))).document["prediction"]
    assert any("names no classes" in one for one in propose(_found(three)).comments["prediction"])


def test_two_versions_are_matched_by_name_then_by_shape() -> None:
    """What cannot be matched is a doubt."""
    champion = _found(_spec("p", "FP32", -1, 3), classes=("a", "b", "c"))
    version = _found(
        _spec("chances", "FP64", -1, 3),
        reads=(_spec("measured", "FP64", -1, 4), _spec("extra")),
        classes=("c", "a", "b"),
    )
    found = match(champion, version)
    assert found.section == {
        "inputs": {"measured": "x", "extra": "extra"},
        "outputs": {"p": {"from": "chances", "lossy": True}},
        "classes": ["c", "a", "b"],
    }
    assert found.inputs == {
        "x": {"datatype": "FP32", "shape": [-1, 4]},
        "extra": {"datatype": "FP32", "shape": [-1]},
    }
    assert found.outputs == {"p": {"datatype": "FP32"}}
    assert any("extra; clients must send it" in doubt for doubt in found.doubts)


def test_versions_that_agree_need_no_mapping() -> None:
    """Same names, same kinds, same classes."""
    one = _found(_spec("p", "FP32", -1, 3), classes=("a", "b", "c"))
    found = match(one, one)
    assert (found.section, found.inputs, found.outputs, found.doubts) == ({}, {}, {}, [])
