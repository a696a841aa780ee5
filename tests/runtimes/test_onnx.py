"""One loaded model: it runs what it was inspected as, and says what went wrong."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from onnxruntime import RunOptions

from gateway.core.binding import Source, VersionRules, bind
from gateway.core.routes import DeclaredInput, EndpointRules
from gateway.errors import (
    InvalidInput,
    InvalidModel,
    ModelFailed,
    ModelTimedOut,
    NonFiniteOutput,
)
from gateway.runtimes.onnx import INLINE_BUDGET_US, OnnxModel, example_inputs
from tests import models

NUMBERS = [name for name in models.ONNX_TYPES if name != "BYTES"]


def _loaded(tmp_path: Path, content: bytes, *, inline: bool = True) -> OnnxModel:
    facts = models.facts_in(tmp_path, "demo", "1", content, inline=inline)
    return models.loaded(tmp_path, facts)


@pytest.mark.parametrize("datatype", NUMBERS)
def test_every_number_type_goes_through_bit_for_bit(tmp_path: Path, datatype: str) -> None:
    """What an identity model is fed it gives back, in the same type."""
    model = _loaded(tmp_path, models.identity(datatype))
    fed = next(iter(example_inputs(model.facts.signature.inputs, rows=3, ramp=True).values()))
    given = model.run({"x": fed})["y"]
    assert given.dtype == fed.dtype
    assert given.tobytes() == fed.tobytes()


def test_text_goes_in_and_out_as_utf8(tmp_path: Path) -> None:
    """Bytes and strings are both text to the model; what comes out is bytes."""
    model = _loaded(tmp_path, models.identity("BYTES"))
    fed = np.array([["grün".encode(), "plain"], [b"", "x\0y"]], dtype=object)
    given = model.run({"x": fed})["y"]
    assert given.tolist() == [["grün".encode(), b"plain"], [b"", b"x\0y"]]


def test_text_that_is_no_utf8_names_its_input(tmp_path: Path) -> None:
    """A model of texts cannot read it, which is the client's doing."""
    model = _loaded(tmp_path, models.identity("BYTES"))
    with pytest.raises(InvalidInput, match=r"inputs\.x: the text must be UTF-8"):
        model.run({"x": np.array([[b"\xff", b""]], dtype=object)})


def test_inputs_of_other_versions_are_left_alone(tmp_path: Path) -> None:
    """Requests carry the union of what all versions read."""
    model = _loaded(tmp_path, models.linear())
    fed = {"x": models.ramp(1, 3), "only_the_challenger_reads": models.ramp(1, 1)}
    assert model.run(fed)["y"].tolist() == [8.0]


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    """Which input, and which version reads it."""
    model = _loaded(tmp_path, models.pair())
    with pytest.raises(InvalidInput, match="input 'b' is missing; version 1 reads it"):
        model.run({"a": np.zeros(1, np.float32)})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_no_answer(tmp_path: Path, value: float) -> None:
    """A number that is none is the model's failure, with the output's name."""
    model = _loaded(tmp_path, models.constant(value))
    with pytest.raises(NonFiniteOutput, match="in output y"):
        model.run({"x": models.ramp(2, 3)})


def test_what_onnxruntime_raises_is_the_models_failure(tmp_path: Path) -> None:
    """An input of the wrong shape is refused earlier; here it stands for any inner error."""
    model = _loaded(tmp_path, models.linear())
    with pytest.raises(ModelFailed, match="version 1 failed") as failed:
        model.run({"x": models.ramp(1, 5)})
    assert "\n" not in str(failed.value)


def test_a_run_that_is_told_to_stop_has_timed_out(tmp_path: Path) -> None:
    """Between two nodes of the graph, also inside a loop."""
    model = _loaded(tmp_path, models.loop_while_positive(), inline=False)
    assert model.run({"x": np.zeros((1, 3), np.float32)})["y"].tolist() == [[0.0, 0.0, 0.0]]
    options = RunOptions()
    stop = threading.Timer(0.1, setattr, (options, "terminate", True))
    stop.start()
    with pytest.raises(ModelTimedOut, match="version 1 ran into its time limit"):
        model.run({"x": np.ones((1, 3), np.float32)}, options)
    stop.join()


def test_another_file_under_the_same_version_is_refused(tmp_path: Path) -> None:
    """Versions are immutable: the bytes must have the digest that was inspected."""
    facts = models.facts_in(tmp_path, "demo", "1", models.linear())
    with pytest.raises(InvalidModel, match="versions are immutable"):
        OnnxModel(facts, models.constant())


def test_a_small_model_is_predicted_to_fit_the_loop(tmp_path: Path) -> None:
    """The prediction grows with the rows, and does not for a model that takes one at a time."""
    batched = _loaded(tmp_path, models.linear())
    assert 0 <= batched.predicted_us(1) <= batched.predicted_us(1000)
    single = _loaded(tmp_path, models.one_row_only())
    assert single.predicted_us(1) == single.predicted_us(1000)


def test_a_model_that_refuses_made_up_inputs_runs_in_a_thread(tmp_path: Path) -> None:
    """Nothing is known of its cost, so it is predicted to be too long for the loop."""
    model = _loaded(tmp_path, models.refuses_zeros())
    assert model.predicted_us(1) > INLINE_BUDGET_US
    assert model.run({"x": np.ones((1, 3), np.float32)})["y"].shape == (1, 3)


def test_runs_are_joined_where_that_saves_a_fifth(tmp_path: Path) -> None:
    """What all rows share, against what each costs; the rows of a large request are enough."""
    model = _loaded(tmp_path, models.linear())
    model.fixed_us, model.per_row_us = 2000.0, 500.0
    assert model.gains_from_joining(1)
    assert model.gains_from_joining(16)
    assert not model.gains_from_joining(17)
    model.fixed_us, model.per_row_us = 0.0, 2500.0
    assert not model.gains_from_joining(1)


def test_control_flow_and_fixed_batches_are_never_joined(tmp_path: Path) -> None:
    """Whatever it would save."""
    for content, inline in ((models.loop(rounds=2), False), (models.one_row_only(), True)):
        model = _loaded(tmp_path, content, inline=inline)
        model.fixed_us, model.per_row_us = 2000.0, 0.0
        assert not model.gains_from_joining(1)


def test_a_mapped_model_speaks_the_endpoints_words(tmp_path: Path) -> None:
    """Other names, another datatype, a column picked: what goes in and out is the endpoint's."""
    facts = models.facts_in(tmp_path, "demo", "1", models.pair())
    rules = EndpointRules(
        inputs={"both": DeclaredInput("INT16", (-1, 2), ("p", "q"))}, outputs={"sum": "FP64"}
    )
    section = VersionRules(
        inputs={"a": (Source("both", ("q",)),), "b": (Source("both", ("p",)),)},
        outputs={"sum": Source("total")},
    )
    model = models.loaded(tmp_path, bind(facts, rules, section))
    assert model.datatypes == {"sum": "FP64"}
    assert model.predicted_us(1) > 0
    answered = model.run({"both": np.array([[1, 20], [3, 40]], np.int16)})
    assert {name: array.tolist() for name, array in answered.items()} == {"sum": [21.0, 43.0]}
    assert answered["sum"].dtype == np.float64
    with pytest.raises(InvalidInput, match="input 'both' is missing"):
        model.run({})
