"""Protobuf messages of the Open Inference Protocol ↔ the parts that REST has, too.

Rules: no gRPC, no model, no clock here. What a request means and what is wrong with it is
decided by the same code as for JSON (oip_request, oip_inputs), so both wires say it in the
same words. Tensors come raw, or typed in `contents`; answers come as the request came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
from google.protobuf.message import DecodeError

from gateway.core.records import TensorRecord
from gateway.core.tensors import DATATYPES, from_raw, to_raw
from gateway.errors import InvalidInput
from gateway.protocols.oip_codec import InferRequest, convert_request
from gateway.protocols.open_inference_pb2 import (
    InferParameter,
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
)

#: The field of `contents` that holds a datatype's elements. FP16 has none.
_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def read_message(body: bytes) -> ModelInferRequest:
    """The message in the bytes of a request. Raises InvalidInput if there is none."""
    try:
        return ModelInferRequest.FromString(body)
    except DecodeError:
        raise InvalidInput("body", "send a ModelInferRequest, its strings as UTF-8") from None


def infer_request(message: ModelInferRequest) -> InferRequest:
    """What a message asks for. Raises InvalidInput with the path of the offending part."""
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidInput(
            "raw_input_contents",
            f"{len(raw)} entries for {len(message.inputs)} inputs; send one for each, or none",
        )
    parts: dict[str, Any] = {"inputs": _inputs(message, raw)}
    if message.id:
        parts["id"] = message.id
    if message.parameters:
        parts["parameters"] = _request_parameters(message.parameters)
    if message.outputs:
        parts["outputs"] = [
            {"name": one.name, "parameters": _parameters(one.parameters)} for one in message.outputs
        ]
    return convert_request(parts)


def _inputs(message: ModelInferRequest, raw: Iterable[bytes]) -> list[dict[str, Any]]:
    inputs: list[dict[str, Any]] = []
    for index, one in enumerate(message.inputs):
        part: dict[str, Any] = {
            "name": one.name,
            "shape": list(one.shape),
            "datatype": one.datatype,
        }
        if one.parameters:
            part["parameters"] = _parameters(one.parameters)
        # On the wire no contents and contents without elements can be one and the same.
        if one.HasField("contents") or (not raw and 0 in one.shape):
            if raw:
                raise InvalidInput(
                    f"inputs[{index}].contents", "leave it out where raw_input_contents are sent"
                )
            part["data"] = _elements(f"inputs[{index}].contents", one.datatype, one.contents)
        inputs.append(part)
    for part, content in zip(inputs, raw, strict=False):
        part["data"] = content
    return inputs


def _elements(field: str, datatype: str, contents: InferTensorContents) -> list[Any] | bytes:
    """Integers and truth values as they are, so that each is checked against its datatype.

    Floating point and text are handed on as raw bytes: that way finds NaN and infinities.
    """
    name = _FIELDS.get(datatype)
    if name is None:
        raise InvalidInput(field, "holds no such elements; send raw_input_contents")
    for sent, _ in contents.ListFields():
        if sent.name != name:
            raise InvalidInput(f"{field}.{sent.name}", f"send {datatype} as {name}")
    elements = getattr(contents, name)
    if datatype == "BYTES":
        return to_raw(np.array(elements, dtype=object))
    if DATATYPES[datatype].is_float:
        return np.array(elements, DATATYPES[datatype].dtype).tobytes()
    return list(elements)


def _request_parameters(sent: Mapping[str, InferParameter]) -> dict[str, Any]:
    """The parameters; `attributes` is an object, for which gRPC has no type, so it is JSON."""
    parameters = _parameters(sent)
    attributes = parameters.get("attributes")
    if isinstance(attributes, str):
        try:
            parameters["attributes"] = msgspec.json.decode(attributes)
        except (msgspec.DecodeError, RecursionError):
            raise InvalidInput(
                "parameters.attributes", "send an object as JSON in a string_param"
            ) from None
    return parameters


def _parameters(sent: Mapping[str, InferParameter]) -> dict[str, Any]:
    values = {}
    for name, parameter in sent.items():
        choice = parameter.WhichOneof("parameter_choice")
        values[name] = None if choice is None else getattr(parameter, choice)
    return values


def encode_answer(
    *,
    model_name: str,
    model_version: str,
    request_id: str | None,
    parameters: Mapping[str, str],
    outputs: Iterable[TensorRecord],
    raw: bool,
) -> bytes:
    """The bytes of an answer; outputs go as raw bytes, or typed unless one of them is FP16."""
    answer = ModelInferResponse(
        model_name=model_name, model_version=model_version, id=request_id or ""
    )
    for name, text in parameters.items():
        answer.parameters[name].string_param = text
    outputs = tuple(outputs)
    typed = not raw and all(tensor.datatype in _FIELDS for tensor in outputs)
    for tensor in outputs:
        output = answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if typed:
            elements = from_raw(tensor.datatype, tensor.shape, tensor.data).ravel().tolist()
            getattr(output.contents, _FIELDS[tensor.datatype]).extend(elements)
        else:
            answer.raw_output_contents.append(tensor.data)
    return answer.SerializeToString()
