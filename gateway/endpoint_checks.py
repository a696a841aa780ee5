"""What an endpoint file cannot say, though each of its values is fine alone.

Rules: pure; every check gives (key, what it must be). What needs a model to be looked at is
checked where the model is (core/binding.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from gateway.core import metrics
from gateway.core.nearest import did_you_mean, listed
from gateway.core.routes import ClassName, Reading, Task
from gateway.endpoint_sections import InputSection, StateSection

Complaints = Iterator[tuple[str, str]]
_READINGS: Mapping[Task, tuple[Reading, ...]] = {
    "binary": ("probability", "class", "scores"),
    "multiclass": ("class", "scores"),
    "regression": ("value",),
}


def impossible_metric(
    metric: str, task: Task, readings: Iterable[tuple[str, Reading]]
) -> Complaints:
    """A metric of another task, or one that cannot read a prediction."""
    fitting = [name for name, one in metrics.all_metrics().items() if task in one.tasks]
    if metric not in fitting:
        known = ", ".join(sorted(fitting)) or "none yet"
        near = did_you_mean(metric, fitting)
        yield "policy.metric", f"there is no {metric} for task {task}; there is {known}{near}"
        return
    for key, reading in readings:
        if metrics.by_name(metric).reads == "probability" and reading == "class":
            yield "policy.metric", f"{metric} needs a {key} other than class"


def impossible_readings(
    readings: Iterable[tuple[str, Reading]], classes: tuple[ClassName, ...], task: Task
) -> Complaints:
    """A reading of another task, or a number of classes that it does not have."""
    for key, reading in readings:
        if reading not in _READINGS[task]:
            yield key, f"is {' or '.join(_READINGS[task])} for task {task}"
    if classes and (task == "regression" or (task == "binary" and len(classes) != 2)):
        yield "prediction.classes", f"{len(classes)} classes are no {task} task"


def impossible_inputs(inputs: Mapping[str, InputSection]) -> Complaints:
    """Keys of `inputs` whose values cannot be together."""
    for name, section in inputs.items():
        if section.shape is None and not section.columns:
            yield f"inputs.{name}.shape", "is missing; say the shape, or name the columns"
        shape = section.shape
        if shape is not None and section.columns and shape != (-1, len(section.columns)):
            yield f"inputs.{name}.shape", f"is [-1, {len(section.columns)}] by its columns"
        yield from _repeated(f"inputs.{name}.columns", section.columns)


def impossible_classes(where: str, classes: tuple[ClassName, ...]) -> Complaints:
    """What cannot be an order of classes."""
    if len({type(name) for name in classes}) > 1:
        yield where, f"are either all texts or all numbers, not {listed(map(repr, classes))}"
    if len(classes) == 1:
        yield where, "one class decides nothing; name all of them"
    yield from _repeated(where, classes)


def impossible_state(state: StateSection | None, output: object) -> Complaints:
    """What cannot be, of the state and the output that is the prediction."""
    if state is None:
        return
    predictions = output.values() if isinstance(output, dict) else [output]
    if output is None:
        yield "prediction.output", "is missing; where there is state, say which output it is not"
    for name in predictions:
        if name in state.tensors.values():
            yield "prediction.output", f"{name} is state, which is no prediction"
    yield from _repeated("state.tensors", tuple(state.tensors.values()))


def _repeated(where: str, names: tuple[ClassName, ...]) -> Complaints:
    for place, name in enumerate(names):
        if name in names[:place]:
            yield f"{where}.{place}", f"{name!r} stands twice"
