"""Mappings of endpoint files: accepted ones do what they say, others are refused by their key."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gateway.core.binding import Source, VersionRules, bind, is_lossless, require_unchanged
from gateway.core.mapping import from_model, to_model
from gateway.core.routes import DeclaredInput, EndpointRules, PredictionReading, VersionFacts
from gateway.core.tensors import DATATYPES, Signature, TensorSpec
from gateway.errors import InvalidInput, InvalidSetting, ModelFailed

FEATURES = DeclaredInput("FP32", (-1, 3), ("a", "b", "c"))
READS, WRITES = TensorSpec("x", "FP32", (-1, 3)), TensorSpec("p", "FP32", (-1, 3))
CLASSES = ("ape", "bee", "cat")


def _facts(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> VersionFacts:
    signature = Signature(inputs, outputs)
    return VersionFacts("2", "d" * 64, "e/2/model.onnx", signature, batches=True, inline=True)


def _model(
    reads: TensorSpec = READS,
    writes: TensorSpec = WRITES,
) -> VersionFacts:
    return _facts((reads,), (writes, TensorSpec("extra", "INT64", (-1,))))


def _sources(*names: str, **options: Any) -> dict[str, tuple[Source, ...]]:
    return {"x": tuple(Source(name, **options) for name in names)}


def _fed(facts: VersionFacts, **arrays: Any) -> Any:
    assert facts.mapping is not None
    return to_model(facts.mapping, arrays)["x"]


def _answered(facts: VersionFacts, **arrays: Any) -> dict[str, Any]:
    assert facts.mapping is not None
    return from_model(facts.mapping, facts.signature, arrays)


def test_a_version_that_maps_nothing_is_its_file() -> None:
    """Digest and signature stay those of the file, also where the endpoint declares the same."""
    facts = _model()
    assert bind(facts, EndpointRules(), VersionRules()) is facts
    rules = EndpointRules(inputs={"x": FEATURES}, outputs={"p": "FP32"})
    assert bind(facts, rules, VersionRules(inputs=_sources("x"))) is facts


def test_a_mapping_is_part_of_the_digest() -> None:
    """Evidence is kept by digest, so another mapping is another version; the file is known too."""
    renamed = bind(_model(), EndpointRules(), VersionRules(inputs=_sources("features")))
    other = bind(_model(), EndpointRules(), VersionRules(inputs=_sources("columns")))
    assert len({_model().digest, renamed.digest, other.digest}) == 3
    assert renamed.unmapped() == _model()
    require_unchanged(renamed, EndpointRules(), VersionRules(inputs=_sources("features")))
    with pytest.raises(InvalidSetting, match=r"versions\.2: .*versions are immutable"):
        require_unchanged(renamed, EndpointRules(), VersionRules())


def test_an_input_can_have_another_name() -> None:
    """Clients see that of the endpoint, with what the model says of it."""
    facts = bind(_model(), EndpointRules(), VersionRules(inputs=_sources("features")))
    assert facts.signature.inputs == (TensorSpec("features", "FP32", (-1, 3)),)
    fed = _fed(facts, features=np.ones((2, 3), np.float32))
    assert fed.tolist() == [[1.0, 1.0, 1.0]] * 2


def test_columns_are_picked_by_name_and_by_number() -> None:
    """In the order that is asked for."""
    model = _model(TensorSpec("x", "FP32", (-1, 2)))
    for columns in (("c", "a"), (2, 0)):
        rules = EndpointRules(inputs={"f": FEATURES})
        facts = bind(model, rules, VersionRules(inputs=_sources("f", columns=columns)))
        assert facts.signature.inputs == (TensorSpec("f", "FP32", (-1, 3)),)
        assert _fed(facts, f=np.array([[1, 2, 3]], np.float32)).tolist() == [[3.0, 1.0]]


def test_tensors_are_joined_into_one() -> None:
    """One-dimensional ones count as a column; all have as many rows."""
    rules = EndpointRules(
        inputs={"age": DeclaredInput("FP32", (-1,)), "pair": DeclaredInput("FP32", (-1, 2))}
    )
    facts = bind(_model(), rules, VersionRules(inputs=_sources("age", "pair")))
    age, pair = np.array([1, 2], np.float32), np.array([[3, 4], [5, 6]], np.float32)
    assert _fed(facts, age=age, pair=pair).tolist() == [[1, 3, 4], [2, 5, 6]]


def test_a_column_can_feed_an_input_of_one_dimension() -> None:
    """And the other way round."""
    rules = EndpointRules(inputs={"f": FEATURES, "one": DeclaredInput("FP32", (-1,))})
    picked = VersionRules(inputs=_sources("f", columns=("b",)))
    facts = bind(_model(TensorSpec("x", "FP32", (-1,))), rules, picked)
    assert _fed(facts, f=np.array([[1, 2, 3]], np.float32)).tolist() == [2.0]
    widened = VersionRules(inputs=_sources("one"))
    facts = bind(_model(TensorSpec("x", "FP32", (-1, 1))), rules, widened)
    assert _fed(facts, one=np.array([7], np.float32)).tolist() == [[7.0]]


def test_a_datatype_is_changed_where_nothing_is_lost() -> None:
    """Or where that is said to be meant; a number out of range is the client's mistake."""
    rules = EndpointRules(inputs={"x": DeclaredInput("FP64", (-1, 3))})
    with pytest.raises(InvalidSetting, match=r"versions\.2\.inputs\.x: FP64 to FP32 can lose"):
        bind(_model(), rules, VersionRules())
    facts = bind(_model(), rules, VersionRules(inputs=_sources("x", lossy=True)))
    assert facts.signature.inputs[0].datatype == "FP64"
    assert _fed(facts, x=np.full((1, 3), 0.1)).dtype == np.float32
    with pytest.raises(InvalidInput, match=r"inputs\.x: a number is out of the range of FP32"):
        _fed(facts, x=np.full((1, 3), 1e300))
    whole = bind(
        _model(TensorSpec("x", "INT8", (-1, 3))),
        rules,
        VersionRules(inputs=_sources("x", lossy=True)),
    )
    for bad in (128.0, np.nan):
        with pytest.raises(InvalidInput, match="out of the range of INT8"):
            _fed(whole, x=np.full((1, 3), bad))


@pytest.mark.parametrize("given", [d for d in DATATYPES if d != "BYTES"])
@pytest.mark.parametrize("wanted", [d for d in DATATYPES if d != "BYTES"])
def test_what_is_called_lossless_loses_nothing(given: str, wanted: str) -> None:
    """The extremes of a datatype, and numbers that need all of its digits, come back."""
    source, target = DATATYPES[given].dtype, DATATYPES[wanted].dtype
    if not is_lossless(given, wanted):
        return
    if source.kind in "iu":
        limits = np.iinfo(source)
        numbers = np.array([limits.min, limits.max, limits.max - 1, limits.max // 3], source)
    elif source.kind == "f":
        limits_f = np.finfo(source)
        numbers = np.array([limits_f.min, limits_f.max, limits_f.tiny, limits_f.eps, 1 / 3], source)
    else:
        numbers = np.array([False, True])
    assert numbers.astype(target).astype(source).tobytes() == numbers.tobytes()


def test_integers_that_a_float_cannot_hold_are_lossy() -> None:
    """Also those that numpy calls safe: not every INT64 is a FP64."""
    assert not is_lossless("INT64", "FP64") and not is_lossless("INT32", "FP32")
    assert is_lossless("INT32", "FP64") and is_lossless("INT16", "FP32")


def test_outputs_get_the_endpoints_names() -> None:
    """What is not named is not answered, and its datatype is the declared one."""
    rules = EndpointRules(outputs={"probabilities": "FP64"})
    section = VersionRules(outputs={"probabilities": Source("p")})
    facts = bind(_model(), rules, section)
    assert facts.signature.outputs == (TensorSpec("probabilities", "FP64", (-1, 3)),)
    answered = _answered(facts, p=np.ones((1, 3), np.float32), extra=np.ones(1))
    assert answered["probabilities"].dtype == np.float64


def _classed(
    reading: Any, writes: TensorSpec, own: tuple[str, ...] = (), **outputs: str
) -> VersionFacts:
    rules = EndpointRules(
        task="multiclass",
        prediction=PredictionReading("p", reading, classes=CLASSES),
        outputs=outputs,
    )
    return bind(_model(writes=writes), rules, VersionRules(classes=own))


def test_scores_come_in_the_endpoints_order() -> None:
    """Column by column, in memory as well: what is journalled and sent is the same."""
    facts = _classed("scores", TensorSpec("p", "FP32", (-1, 3)), ("cat", "ape", "bee"))
    scores = np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], np.float32)
    answered = _answered(facts, p=scores, extra=np.zeros(2))["p"]
    assert answered.tolist() == scores[:, [1, 2, 0]].tolist()
    assert answered.flags.c_contiguous
    with pytest.raises(ModelFailed, match="3 classes are declared"):
        _answered(facts, p=scores[:, :2], extra=np.zeros(2))


def test_numbers_of_classes_become_the_endpoints() -> None:
    """This version's 0 is a cat, which is 2 to everybody else."""
    facts = _classed("class", TensorSpec("p", "INT64", (-1,)), ("cat", "ape", "bee"))
    answered = _answered(facts, p=np.array([0, 1, 2]), extra=np.zeros(3))
    assert answered["p"].tolist() == [2, 0, 1]
    for bad in (3, -1):
        with pytest.raises(ModelFailed, match="none of 0 to 2"):
            _answered(facts, p=np.array([bad]), extra=np.zeros(1))


def test_texts_become_numbers_where_numbers_are_declared() -> None:
    """So that a version that names its classes can follow one that counts them."""
    facts = _classed("class", TensorSpec("p", "BYTES", (-1,)), p="INT64")
    names = np.array([b"bee", b"ape"], dtype=object)
    assert _answered(facts, p=names, extra=np.zeros(2))["p"].tolist() == [1, 0]
    with pytest.raises(ModelFailed, match="none of ape, bee, cat"):
        _answered(facts, p=np.array([b"dog"], dtype=object), extra=np.zeros(1))


_F = {"f": FEATURES}
_NARROW = TensorSpec("x", "FP32", (-1, 2))


@pytest.mark.parametrize(
    ("model", "rules", "section", "key", "advice"),
    [
        (_model(), {}, {"inputs": {"z": (Source("x"),)}}, "inputs.z", "it reads x"),
        (
            _facts((TensorSpec("weight", "FP32", (-1,)),), (TensorSpec("p", "FP32", (-1,)),)),
            {},
            {"inputs": {"wieght": (Source("x"),)}},
            "inputs.wieght",
            "did you mean weight?",
        ),
        (_model(), {"inputs": _F}, {"inputs": _sources("ff")}, "inputs.x", "did you mean f?"),
        (_model(), {"inputs": _F}, {}, "inputs.x", "'x' is not declared"),
        (_model(), {}, {"inputs": _sources("a", "b")}, "inputs.x", "declare 'a'"),
        (_model(), {}, {"inputs": _sources("f", columns=(0,))}, "inputs.x", "declare 'f'"),
        (
            _model(_NARROW),
            {"inputs": _F},
            {"inputs": _sources("f", columns=("a", "d"))},
            "inputs.x.columns",
            "there is no column 'd'; there are a, b, c",
        ),
        (
            _model(_NARROW),
            {"inputs": _F},
            {"inputs": _sources("f", columns=(0, 3))},
            "inputs.x.columns",
            "there are 0 to 2",
        ),
        (_model(_NARROW), {"inputs": _F}, {"inputs": _sources("f")}, "inputs.x", "has shape"),
        (
            _model(_NARROW),
            {"inputs": _F},
            {"inputs": _sources("f", "f")},
            "inputs.x",
            "gives [-1, 6], the model reads [-1, 2]",
        ),
        (
            _model(TensorSpec("x", "BYTES", (-1, 3))),
            {"inputs": _F},
            {"inputs": _sources("f", lossy=True)},
            "inputs.x",
            "no text is a number",
        ),
        (_model(), {}, {"outputs": {"q": Source("pp")}}, "outputs.q", "did you mean p?"),
        (
            _model(),
            {"outputs": {"q": "INT64"}},
            {"outputs": {"q": Source("p")}},
            "outputs.q",
            "FP32 to INT64 can lose",
        ),
        (_model(), {}, {"classes": ("ape", "bee")}, "classes", "in prediction.classes"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_by_its_key(
    model: VersionFacts, rules: Any, section: Any, key: str, advice: str
) -> None:
    """With what is there, and the nearest name."""
    with pytest.raises(InvalidSetting) as refused:
        bind(model, EndpointRules(**rules), VersionRules(**section))
    assert str(refused.value).startswith(f"versions.2.{key}: ")
    assert advice in str(refused.value)


@pytest.mark.parametrize(
    ("own", "advice"),
    [
        (("ape", "bee", "cap"), "did you mean cat?"),
        (("ape", "bee"), "cat is missing"),
    ],
)
def test_the_classes_of_a_version_are_the_endpoints(own: tuple[str, ...], advice: str) -> None:
    """In another order, and no others."""
    with pytest.raises(InvalidSetting, match=r"versions\.2\.classes: ") as refused:
        _classed("scores", TensorSpec("p", "FP32", (-1, 3)), own)
    assert advice in str(refused.value)


def test_as_many_classes_as_columns() -> None:
    """Also where the version says nothing of its own."""
    with pytest.raises(InvalidSetting, match=r"there are 3 .ape, bee, cat., and output 'p'"):
        _classed("scores", TensorSpec("p", "FP32", (-1, 4)))


def test_an_output_that_is_declared_must_be_answered() -> None:
    """By every version, or clients would see it come and go."""
    with pytest.raises(InvalidSetting, match=r"outputs\.probs: version 2 does not answer it"):
        bind(_model(), EndpointRules(outputs={"probs": ""}), VersionRules())
