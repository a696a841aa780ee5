"""What an endpoint file could say of a model that nobody has described yet.

Rules: a guess is marked as one, with its reason; what is not known is said as a doubt. The
document is one that the gateway accepts, so that a first try needs no editing. Pure: what was
found in the file goes in, a document with comments comes out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.core.nearest import listed
from gateway.core.routes import ClassName, Reading, Task
from gateway.core.tensors import Signature, TensorSpec

_LABELS = ("label", "class", "variable", "prediction")
_WORDS_OF_PLACE = {"in", "out", "new", "next", "prev", "old", "0", "n", "1", "t", "input", "output"}


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What an inspection says of a model file."""

    signature: Signature
    classes: tuple[ClassName, ...] = ()
    squashed: tuple[str, ...] = ()


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """The output that looks like the prediction, how it would be read, and why."""

    spec: TensorSpec
    task: Task
    reading: Reading
    because: str


class Proposal(msgspec.Struct, frozen=True):
    """Sections of an endpoint file, in order, and what is to be said above each."""

    document: dict[str, Any]
    comments: dict[str, list[str]]


def propose(found: Found) -> Proposal:
    """An endpoint file for a model that is served alone."""
    state = state_pairs(found.signature)
    guess = prediction_of(found, state)
    prediction: dict[str, Any] = {"output": guess.spec.name, "reading": guess.reading}
    classes = classes_for(found, guess)
    if classes:
        prediction["classes"] = list(classes)
    document: dict[str, Any] = {"task": guess.task, "prediction": prediction}
    comments = {"task": [f"a guess: {guess.because}"], "prediction": _doubts(found, guess, classes)}
    if state:
        document["state"] = {"tensors": state}
        comments["state"] = [
            "these look like state that the client carries from one answer to the next request;",
            "without `exchangeable: true` a challenger that reads it cannot be compared",
        ]
    document["labels"] = {"maturity": "1d"}
    comments["labels"] = ["how long after its prediction may a label come? nobody but you knows"]
    document["policy"] = _policy(guess)
    comments["policy"] = ["see docs/endpoint-file.md for everything else that can be said"]
    if guess.task == "regression":
        comments["policy"].append("scale: the error that is wholly wrong, in the label's unit")
    return Proposal(document, comments)


def _policy(guess: Prediction) -> dict[str, Any]:
    if guess.task == "regression":
        return {"metric": "absolute_error", "scale": 1.0}
    return {"metric": "zero_one"}


def _doubts(found: Found, guess: Prediction, classes: Sequence[ClassName]) -> list[str]:
    others = [n for n in found.signature.output_names if n != guess.spec.name]
    lines = [f"other outputs: {listed(others)}"] if others else []
    if classes:
        lines.append("classes: as the model names them, in the order of its columns")
    elif guess.task == "multiclass":
        lines.append("doubt: the model names no classes; labels must be 0, 1, … as its columns")
    if guess.reading == "probability" and not found.classes:
        lines.append("doubt: is it the probability of class 1, and is 0.5 the threshold?")
    if any(not spec.has_rows for spec in found.signature.inputs):
        lines.append("doubt: an input has no rows (dimension 0 is fixed); nothing can be batched")
    return lines


def classes_for(found: Found, guess: Prediction) -> tuple[ClassName, ...]:
    """The classes that the file should name: those of the model, where they fit."""
    if len(found.classes) < 2 or guess.task == "regression":
        return ()
    if guess.task == "binary" and len(found.classes) != 2:
        return ()
    is_counted = found.classes == tuple(range(len(found.classes)))
    return () if is_counted else found.classes


def prediction_of(found: Found, state: dict[str, str]) -> Prediction:
    """The output that is most likely the prediction."""
    outputs = [s for s in found.signature.outputs if s.name not in state.values()]
    outputs = outputs or list(found.signature.outputs)
    return max((_read(spec, found) for spec in outputs), key=_likelihood)


def _likelihood(guess: Prediction) -> tuple[bool, bool, bool]:
    """Probabilities before labels, because they say more; what is named like one first."""
    name = guess.spec.name.lower()
    return (
        guess.reading in ("probability", "scores"),
        guess.reading == "class" or any(word in name for word in _LABELS),
        "prob" in name or "score" in name,
    )


def _read(spec: TensorSpec, found: Found) -> Prediction:
    width = spec.shape[1] if len(spec.shape) == 2 else 1 if len(spec.shape) == 1 else 0
    number = len(found.classes) or 2
    if not spec.kind.is_float:
        task: Task = "multiclass" if number > 2 else "binary"
        because = f"{spec.name} is {spec.datatype}, which looks like the class itself"
        return Prediction(spec=spec, task=task, reading="class", because=because)
    looks_squashed = spec.name in found.squashed or "prob" in spec.name.lower()
    if width == 2:
        because = f"{spec.name} has two columns; the second would be the probability of class 1"
        reading: Reading = "probability" if looks_squashed or found.classes else "scores"
        return Prediction(spec=spec, task="binary", reading=reading, because=because)
    if width > 2 or (width < 0 and number > 2):
        because = f"{spec.name} has a column for each of {width if width > 0 else number} classes"
        return Prediction(spec=spec, task="multiclass", reading="scores", because=because)
    if looks_squashed:
        because = f"{spec.name} is one number from 0 to 1"
        return Prediction(spec=spec, task="binary", reading="probability", because=because)
    because = f"{spec.name} is one number, and nothing says that it is a probability"
    return Prediction(spec=spec, task="regression", reading="value", because=because)


def state_pairs(signature: Signature) -> dict[str, str]:
    """Inputs that look like the state of an output, by datatype, shape and name."""
    pairs: dict[str, str] = {}
    for spec in signature.inputs:
        for output in signature.outputs:
            alike = (spec.datatype, spec.shape) == (output.datatype, output.shape)
            if alike and _stem(spec.name) and _stem(spec.name) == _stem(output.name):
                pairs.setdefault(spec.name, output.name)
    is_all = len(pairs) in (len(signature.inputs), len(signature.outputs))
    return {} if is_all else pairs


def _stem(name: str) -> tuple[str, ...]:
    """The words of a name but those that say where it stands, such as `h` of `h_out`."""
    words = re.findall(r"[a-z]+|[0-9]+", name.lower())
    return tuple(word for word in words if word not in _WORDS_OF_PLACE)
