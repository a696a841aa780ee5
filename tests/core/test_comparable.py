"""Which versions may be challenged: those that one request and one label can compare."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.core.comparable import require_comparable
from gateway.core.routes import (
    DeclaredInput,
    EndpointRules,
    PredictionReading,
    Rollout,
    StateRules,
    VersionFacts,
)
from gateway.core.tensors import Signature, TensorSpec
from gateway.errors import Refused
from tests.rollouts import solo

X, P = TensorSpec("x", "FP32", (-1, 2)), TensorSpec("p", "FP32", (-1, 3))
H, H_OUT = TensorSpec("h", "FP32", (-1, 4)), TensorSpec("h_out", "FP32", (-1, 4))


def _facts(version: str, reads: tuple[TensorSpec, ...], *writes: TensorSpec) -> VersionFacts:
    signature = Signature(reads, writes)
    return VersionFacts(version, f"digest {version}", "", signature, batches=True, inline=True)


def _rollout(one: VersionFacts, two: VersionFacts, **rules: Any) -> Rollout:
    return msgspec.structs.replace(
        solo(versions=("1",)), versions={"1": one, "2": two}, rules=EndpointRules(**rules)
    )


def _refusal(rollout: Rollout) -> str:
    with pytest.raises(Refused) as refused:
        require_comparable(rollout, "1", "2")
    return str(refused.value)


def test_versions_that_look_alike_are_comparable() -> None:
    """Further inputs and outputs of either do not matter."""
    one, two = _facts("1", (X,), P), _facts("2", (X, H), P, H_OUT)
    require_comparable(_rollout(one, two), "1", "2")


def test_an_input_of_two_kinds_is_refused() -> None:
    """One request cannot be both."""
    two = _facts("2", (TensorSpec("x", "FP64", (-1, 2)),), P)
    assert "reads input x as FP64" in _refusal(_rollout(_facts("1", (X,), P), two))


def test_an_input_that_is_declared_otherwise_is_refused() -> None:
    """A version that was added before the declaration may not fit it."""
    other = {"x": DeclaredInput("FP32", (-1, 2)), "z": DeclaredInput("FP32", (-1,))}
    two = _facts("2", (X, TensorSpec("y", "FP32", (-1,))), P)
    assert "reads y as FP32 [-1]" in _refusal(_rollout(_facts("1", (X,), P), two, inputs=other))


def test_a_declared_output_must_be_the_same() -> None:
    """Clients would see another datatype from the promotion on, or nothing."""
    one = _facts("1", (X,), P)
    two = _facts("2", (X,), TensorSpec("p", "FP64", (-1, 3)))
    refusal = _refusal(_rollout(one, two, outputs={"p": ""}))
    assert "version 2 answers FP64 [-1, 3], version 1 FP32 [-1, 3]" in refusal
    lacking = _facts("2", (X,), TensorSpec("q", "FP32", (-1, 3)))
    assert "version 2 does not answer" in _refusal(_rollout(one, lacking, outputs={"p": ""}))


def test_texts_and_numbers_are_not_compared() -> None:
    """No text equals a number, so every row would be a disagreement."""
    two = _facts("2", (X,), TensorSpec("p", "BYTES", (-1,)))
    assert "text is compared with text only" in _refusal(_rollout(_facts("1", (X,), P), two))


def test_scores_of_other_classes_are_not_compared() -> None:
    """The greatest of three and the greatest of five are answers to two questions."""
    two = _facts("2", (X,), TensorSpec("p", "FP32", (-1, 5)))
    scores = PredictionReading(reading="scores")
    refusal = _refusal(_rollout(_facts("1", (X,), P), two, prediction=scores))
    assert "scores of 5 classes and version 1 of 3" in refusal


def test_a_prediction_that_is_not_there_is_refused() -> None:
    """With the outputs that are."""
    two = _facts("2", (X,), TensorSpec("q", "FP32", (-1, 3)))
    rollout = _rollout(_facts("1", (X,), P), two, prediction=PredictionReading("p"))
    assert "it answers q" in _refusal(rollout)


def test_a_challenger_is_not_judged_by_the_champions_state() -> None:
    """Whoever of the two reads what the other writes; unless the states are said to be one."""
    recurrent = _facts("1", (X, H), P, H_OUT), _facts("2", (X, H), P, H_OUT)
    state = StateRules({"h": "h_out"})
    refusal = _refusal(_rollout(*recurrent, prediction=PredictionReading("p"), state=state))
    assert "reads the state h" in refusal and "exchangeable: true" in refusal
    shared = StateRules({"h": "h_out"}, exchangeable=True)
    require_comparable(
        _rollout(*recurrent, prediction=PredictionReading("p"), state=shared), "1", "2"
    )


def test_a_state_of_its_own_is_comparable() -> None:
    """A challenger whose state comes from the client under another name, or that has none."""
    state, champion = StateRules({"h": "h_out"}), _facts("1", (X, H), P, H_OUT)
    for other in (_facts("2", (X, TensorSpec("window", "FP32", (-1, 9))), P), _facts("2", (X,), P)):
        rollout = _rollout(champion, other, prediction=PredictionReading("p"), state=state)
        require_comparable(rollout, "1", "2")
