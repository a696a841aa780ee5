"""Arrays → the bytes of an Open Inference Protocol answer, as JSON, binary or mixed.

Rules: JSON data is flat. Floating-point numbers are written with the fewest digits that read
back as the same number of their datatype. Whether outputs are finite is decided before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec
import orjson

from gateway.core.tensors import Array, Signature, to_raw
from gateway.errors import InvalidInput
from gateway.protocols.oip_documents import AnswerDocument, AnswerParameters, OutputDocument
from gateway.protocols.oip_request import InferRequest, RequestedOutput

_NO_NAMES: frozenset[str] = frozenset()


class OutputChoice(msgspec.Struct, frozen=True):
    """The outputs to answer, in the client's order, and those of them to send as binary."""

    names: tuple[str, ...]
    binary: frozenset[str]


def requested_outputs(request: InferRequest, signature: Signature) -> OutputChoice:
    """Read `outputs` and `binary_data_output`; without them all outputs, as JSON.

    Raises InvalidInput for an output that the signature does not have, or a classification.
    """
    names = signature.output_names
    if not request.outputs and not request.parameters:
        return OutputChoice(names, _NO_NAMES)
    all_binary = _is_true(request.parameters, "binary_data_output", "parameters")
    if not request.outputs:
        return OutputChoice(names, frozenset(names) if all_binary else _NO_NAMES)
    binary = set()
    for index, wanted in enumerate(request.outputs):
        _check_output(f"outputs[{index}]", wanted, signature)
        field = f"outputs[{index}].parameters"
        if _is_true(wanted.parameters, "binary_data", field, default=all_binary):
            binary.add(wanted.name)
    names = tuple(wanted.name for wanted in request.outputs)
    if len(set(names)) != len(names):
        raise InvalidInput("outputs", "ask for each output once")
    return OutputChoice(names, frozenset(binary))


def _check_output(field: str, wanted: RequestedOutput, signature: Signature) -> None:
    if wanted.name not in signature.output_names:
        known = ", ".join(signature.output_names[:8])
        raise InvalidInput(f"{field}.name", f"no such output; ask for one of {known}")
    for word in ("classification", "shared_memory_region"):
        if wanted.parameters and word in wanted.parameters:
            raise InvalidInput(f"{field}.parameters.{word}", "not served; ask for the tensor")


def _is_true(
    parameters: dict[str, Any] | None, key: str, field: str, *, default: bool = False
) -> bool:
    value = default if parameters is None else parameters.get(key, default)
    if type(value) is not bool:
        raise InvalidInput(f"{field}.{key}", "send true or false")
    return value


def encode_response(
    *,
    model_name: str,
    model_version: str,
    request_id: str | None,
    parameters: AnswerParameters,
    outputs: Iterable[tuple[str, str, Array]],
    binary: Collection[str] = _NO_NAMES,
) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON for Inference-Header-Content-Length if binary follows.

    `outputs` are (name, datatype, array). Raises InvalidInput if a BYTES output is no text.
    """
    chunks: list[bytes] = []
    tensors: list[OutputDocument] = []
    for name, datatype, array in outputs:
        tensor: OutputDocument = {"name": name, "datatype": datatype, "shape": array.shape}
        if name in binary:
            raw = to_raw(array)
            chunks.append(raw)
            tensor["parameters"] = {"binary_data_size": len(raw)}
        else:
            tensor["data"] = _texts(name, array) if datatype == "BYTES" else array.ravel()
        tensors.append(tensor)
    # In the protocol's order, so it is not whole before its last line.
    answer: AnswerDocument = {  # type: ignore[typeddict-item]
        "model_name": model_name,
        "model_version": model_version,
    }
    if request_id is not None:
        answer["id"] = request_id
    answer["parameters"] = parameters
    answer["outputs"] = tensors
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if not chunks:
        return head, None
    return b"".join((head, *chunks)), len(head)


def _texts(name: str, array: Array) -> list[str]:
    try:
        return [
            element if isinstance(element, str) else element.decode()
            for element in array.ravel().tolist()
        ]
    except UnicodeDecodeError:
        raise InvalidInput(
            "outputs", f"{name} holds bytes that are no UTF-8 text; ask for it as binary_data"
        ) from None
