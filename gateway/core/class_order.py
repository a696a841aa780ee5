"""The classes of an endpoint: which column, number or text stands for which of them.

The endpoint file gives the order once, and a version whose own order differs says its own, so
that champion and challenger are compared class by class. Rules: a class is known by its
position in the endpoint's order. A text is the class of that name. A number is the class of
that value where the classes are numbers, and else the position. What is none is NaN, which
observations count as a failure of the version, or as an unreadable label.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from gateway.core.arrays import Floats
from gateway.core.mapping import OutputMap
from gateway.core.nearest import did_you_mean, listed
from gateway.core.routes import ClassName, PredictionReading
from gateway.core.tensors import DATATYPES, TensorSpec
from gateway.errors import InvalidSetting


def positions_of_numbers(numbers: Floats, classes: Sequence[ClassName]) -> Floats:
    """The position of each number's class, float64[n]; NaN where it is the number of none."""
    known = np.arange(len(classes)) if isinstance(classes[0], str) else np.array(classes)
    found = numbers[:, np.newaxis] == known[np.newaxis, :]
    return np.where(found.any(axis=1), found.argmax(axis=1).astype(np.float64), np.nan)


def positions_of_texts(texts: Iterable[str | None], classes: Sequence[ClassName]) -> Floats:
    """The position of each text's class, float64[n]; NaN where it is the name of none."""
    known = {str(name): float(place) for place, name in enumerate(classes)}
    return np.array([np.nan if t is None else known.get(t, np.nan) for t in texts], np.float64)


def bind_classes(
    output: OutputMap,
    spec: TensorSpec,
    *,
    reading: PredictionReading,
    version: str,
    own: tuple[ClassName, ...],
    datatype: str,
) -> OutputMap:
    """The output that is the prediction, with its classes brought into the endpoint's order.

    `spec` is the model's output, `own` the order of its classes (empty: the endpoint's), and
    `datatype` what clients see. Raises InvalidSetting.
    """
    order, kind = reading.classes, reading.reading_of(version)
    if own:
        _require_same_classes(f"versions.{version}.classes", own, order)
    if kind != "class" or not order:
        return _bind_columns(
            output, spec, order=order, version=version, own=own or order, kind=kind
        )
    code = {name: name if isinstance(name, int) else at for at, name in enumerate(order)}
    if spec.datatype == "BYTES":
        is_text = datatype == "BYTES"
        texts = None if is_text else {str(name): number for name, number in code.items()}
        return msgspec.structs.replace(output, texts=texts)
    codes = tuple(code[name] for name in own)
    if not DATATYPES[spec.datatype].itemsize_bytes or codes == tuple(range(len(codes))):
        return output
    return msgspec.structs.replace(output, codes=codes)


def _bind_columns(
    output: OutputMap,
    spec: TensorSpec,
    *,
    order: tuple[ClassName, ...],
    version: str,
    own: tuple[ClassName, ...],
    kind: str,
) -> OutputMap:
    width = spec.shape[1] if len(spec.shape) == 2 else 1 if len(spec.shape) == 1 else -1
    is_single = kind == "probability" and width == 1
    if order and width > 0 and width != len(order) and not is_single:
        raise InvalidSetting(
            f"prediction.classes: there are {len(order)} ({listed(order)}), and output "
            f"{spec.name!r} of version {version} has {width} columns"
        )
    columns = tuple(own.index(name) for name in order)
    if columns == tuple(range(len(columns))):
        return output
    if is_single:
        raise InvalidSetting(
            f"versions.{version}.classes: output {spec.name!r} is one column, the probability of "
            f"{order[-1]!r}; it has no order"
        )
    return msgspec.structs.replace(output, columns=columns)


def _require_same_classes(
    where: str, own: tuple[ClassName, ...], order: tuple[ClassName, ...]
) -> None:
    if not order:
        raise InvalidSetting(f"{where}: say the endpoint's own order first, in prediction.classes")
    for name in own:
        if name not in order:
            raise InvalidSetting(
                f"{where}: {name!r} is no class of the endpoint; those are {listed(order)}"
                + did_you_mean(str(name), map(str, order))
            )
    missing = [name for name in order if name not in own]
    if missing:
        raise InvalidSetting(f"{where}: {listed(missing)} is missing; name every class once")
