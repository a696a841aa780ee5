"""Hundreds of models that nobody made for us, served as they are, over the public client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from gateway.core.tensors import DATATYPES
from gateway.errors import InvalidModel
from gateway.runtimes.inspection import inspect_files
from tests.flows.operators import Case, cases, same
from tests.serving_process import ServingProcess, start_server

#: Of some 1,880 models. All of them would take some minutes of CPU.
ONE_IN = 5
LEAST_SERVED = 300

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def collected() -> list[Case]:
    """The collection, or a part of it."""
    return list(cases(every=ONE_IN))


@pytest.fixture(scope="module")
def served(
    collected: list[Case], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServingProcess]:
    """A gateway with an endpoint for each model that can be served."""
    models = tmp_path_factory.mktemp("operators")
    for case in collected:
        if not case.why_not:
            folder = models / case.endpoint / "1"
            folder.mkdir(parents=True)
            (folder / "model.onnx").write_bytes(case.content)
    server = start_server(tmp_path_factory.mktemp("served"), models, workers=1, within_s=400)
    yield server
    server.stop()


def _is_finite(case: Case, *, of: str) -> bool:
    arrays = (case.inputs if of == "inputs" else case.answer).values()
    return all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f")


def _ask(client: InferenceServerClient, case: Case, *, binary: bool) -> InferResult:
    inputs = []
    for name, array in case.inputs.items():
        datatype = case.datatypes[name]
        sent = array.astype(object) if datatype == "BYTES" else array
        one = InferInput(name, list(array.shape), datatype)
        # The client itself writes no FP16 as JSON.
        inputs.append(one.set_data_from_numpy(sent, binary_data=binary or datatype == "FP16"))
    outputs = [InferRequestedOutput(name, binary_data=binary) for name in case.answer]
    return client.infer(case.endpoint, inputs, outputs=outputs)


def _refusal(client: InferenceServerClient, case: Case) -> str:
    with pytest.raises(InferenceServerException) as refused:
        _ask(client, case, binary=True)
    return str(refused.value)


def test_foreign_models_answer_what_onnxruntime_answers(
    served: ServingProcess, collected: list[Case]
) -> None:
    """Bit for bit, as JSON and as binary in turn; and as the collection's authors expect."""
    answered, differ, seen = 0, [], set()
    with served.triton() as client:
        for index, case in enumerate(case for case in collected if not case.why_not):
            if not _is_finite(case, of="inputs"):
                assert _refusal(client, case).startswith("[400] inputs["), case.endpoint
                continue
            if not _is_finite(case, of="outputs"):
                assert "NaN or infinity" in _refusal(client, case), case.endpoint
                continue
            result = _ask(client, case, binary=index % 2 == 0)
            given = {name: result.as_numpy(name) for name in case.answer}
            is_same = all(same(given[name], case.answer[name]) for name in given)
            is_expected = case.agrees(given.values()) or not case.is_as_expected
            answered += is_same and is_expected
            differ += [] if is_same and is_expected else [case.endpoint]
            seen |= set(case.datatypes.values())
    assert differ == []
    assert answered >= LEAST_SERVED, answered
    assert seen == set(DATATYPES), "no datatype is left out"


def test_what_is_left_out_has_its_reason(collected: list[Case]) -> None:
    """Few models are: onnxruntime lacks the operator, the protocol the type, the case its data."""
    reasons = Counter(case.why_not.partition(":")[0] for case in collected)
    assert set(reasons) == {"", "not loaded", "not carried", "not run"}
    assert reasons["not run"] <= 0.02 * len(collected), reasons
    assert reasons[""] >= 0.8 * len(collected), reasons
    odd = [case.endpoint for case in collected if not case.why_not and not case.is_as_expected]
    assert len(odd) <= 0.03 * len(collected), f"onnxruntime itself differs: {odd}"


def test_what_cannot_be_served_is_refused_when_it_is_loaded(
    collected: list[Case], tmp_path: Path
) -> None:
    """Sequences, optionals and types without a datatype by name; missing operators by theirs."""
    refused = [c for c in collected if c.why_not.startswith(("not loaded", "not carried"))]
    paths = [tmp_path / f"{case.endpoint}.onnx" for case in refused]
    for path, case in zip(paths, refused, strict=True):
        path.write_bytes(case.content)
    said = Counter[str]()
    for case, found in zip(refused, inspect_files(paths), strict=True):
        assert isinstance(found, InvalidModel), case.endpoint
        reason = str(found).removeprefix(f"{case.endpoint}.onnx: ")
        if case.why_not.startswith("not loaded"):
            assert reason.startswith("onnxruntime cannot load the model: "), reason
            said["operator"] += any(operator in reason for operator in case.operators)
        else:
            assert reason.startswith(("input ", "output ")), reason
            for kind in ("seq(", "optional(", "bfloat16", "float8", "int4"):
                said[kind] += kind in reason
    for kind in ("operator", "seq(", "bfloat16", "float8", "int4"):
        assert said[kind] > 0, said
