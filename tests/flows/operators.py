"""The small models that the onnx package tests operators with, as endpoints and as requests.

Each case is a model of one operator, its inputs and what must come out. They are foreign
models in every respect: of all datatypes, with scalars, without a batch dimension, with empty
tensors, with many inputs and outputs, with none.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.core.tensors import DATATYPES
from gateway.errors import InvalidModel
from gateway.runtimes.onnx import open_session

_DATATYPES = {row.onnx_type: row.name for row in DATATYPES.values()}

Array = NDArray[Any]


class Case(msgspec.Struct):
    """One model; `why_not` is why it cannot be served here, and empty if it can.

    `answer` is what onnxruntime gives in this process, `expected` what the collection wants.
    """

    endpoint: str
    content: bytes
    operators: set[str]
    datatypes: dict[str, str]
    inputs: dict[str, Array]
    answer: dict[str, Array]
    expected: list[Array]
    rtol: float
    atol: float
    why_not: str = ""

    @property
    def is_as_expected(self) -> bool:
        """Whether onnxruntime itself gives what the collection wants."""
        return self.agrees(self.answer.values())

    def agrees(self, answer: Iterable[Array]) -> bool:
        """Whether these outputs are within the case's tolerance of the expected ones."""
        return all(
            _is_close(given, wanted, self)
            for given, wanted in zip(answer, self.expected, strict=True)
        )


def cases(*, every: int) -> Iterator[Case]:
    """One case in `every`, in the collection's order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the collection's own arithmetic
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    for index in range(0, len(found), every):
        yield _case(index, found[index])


def same(given: Array, wanted: Array) -> bool:
    """Whether two tensors are equal bit for bit; text may come as bytes."""
    if wanted.dtype == object:
        return given.shape == wanted.shape and _texts(given) == _texts(wanted)
    return (given.shape, given.dtype, given.tobytes()) == (
        wanted.shape,
        wanted.dtype,
        wanted.tobytes(),
    )


def _case(index: int, found: Any) -> Case:
    name = re.sub("[^a-z0-9]+", "-", found.name.removeprefix("test_").lower())
    inputs, expected = found.data_sets[0]
    case = Case(
        endpoint=f"{index}-{name}"[:60].rstrip("-"),
        content=found.model.SerializeToString(),
        operators={node.op_type for node in found.model.graph.node},
        datatypes={},
        inputs={},
        answer={},
        expected=[],
        rtol=found.rtol,
        atol=found.atol,
    )
    case.why_not = _run_here(case, inputs, expected)
    return case


def _run_here(case: Case, inputs: list[Any], expected: list[Any]) -> str:
    try:
        session = open_session(case.content)
    except InvalidModel as error:
        return f"not loaded: {error}"
    reads, gives = session.get_inputs(), session.get_outputs()
    types = {node.type for node in (*reads, *gives)}
    if not types <= _DATATYPES.keys():
        return f"not carried: {types - _DATATYPES.keys()}"
    case.datatypes = {node.name: _DATATYPES[node.type] for node in (*reads, *gives)}
    case.expected = [np.asarray(one) for one in expected]
    case.inputs = {node.name: np.asarray(one) for node, one in zip(reads, inputs, strict=True)}
    try:
        given = session.run(None, case.inputs)
    except Exception as error:  # onnxruntime raises several unrelated classes
        return f"not run: {error}"
    names = [node.name for node in gives]
    case.answer = dict(zip(names, map(np.asarray, given), strict=True))
    return ""


def _is_close(given: Array, wanted: Array, case: Case) -> bool:
    if wanted.dtype.kind in "OSU":
        return same(given.astype(object), wanted.astype(object))
    if (given.shape, given.dtype) != (wanted.shape, wanted.dtype):
        return False
    return np.allclose(given, wanted, rtol=case.rtol, atol=case.atol, equal_nan=True)


def _texts(array: Array) -> list[str]:
    return [one.decode() if isinstance(one, bytes) else str(one) for one in array.ravel()]
