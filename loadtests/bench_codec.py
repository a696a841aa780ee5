"""What the wire costs: µs of CPU per request for decoding and encoding, measured alone.

`figures()` is read by the benchmark report. Each figure is the best of several passes, so that
a busy neighbour does not count; compare only figures of one run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from gateway.core.tensors import Signature, TensorSpec
from gateway.protocols.oip_codec import (
    decode_inputs,
    decode_request,
    encode_response,
    request_context,
    requested_outputs,
)

PASSES = 7
PASS_S = 0.05


def cpu_us(work: Callable[[], object]) -> float:
    """CPU per call in microseconds, the best of several passes of about 50 ms each."""
    calls, spent_ns = 1, 0
    while spent_ns < PASS_S * 1e9:
        calls *= 2
        spent_ns = _cpu_ns(work, calls)
    return min([spent_ns, *(_cpu_ns(work, calls) for _ in range(PASSES - 1))]) / calls / 1e3


def _cpu_ns(work: Callable[[], object], calls: int) -> int:
    began_ns = time.process_time_ns()
    for _ in range(calls):
        work()
    return time.process_time_ns() - began_ns


def _wide(rows: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).normal(size=(rows, 8)).astype("<f4")


def _wide_request(array: np.ndarray[Any, Any], *, nested: bool = False) -> bytes:
    data = array.tolist() if nested else array.ravel().tolist()
    tensor = {"name": "x", "shape": array.shape, "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


def _named_request(array: np.ndarray[Any, Any]) -> bytes:
    tensors = [
        {"name": f"x{i}", "shape": [1, 1], "datatype": "FP32", "data": [value]}
        for i, value in enumerate(array.ravel().tolist())
    ]
    return json.dumps({"inputs": tensors}).encode()


def _binary_request(array: np.ndarray[Any, Any]) -> tuple[bytes, int]:
    raw = array.tobytes()
    size = {"binary_data_size": len(raw)}
    tensor = {"name": "x", "shape": array.shape, "datatype": "FP32", "parameters": size}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + raw, len(head)


def _decoder(
    body: bytes, json_length: int | None, specs: dict[str, TensorSpec]
) -> Callable[[], object]:
    signature = Signature(tuple(specs.values()), (TensorSpec("p", "FP32", (-1, 1)),))
    required = frozenset(specs)

    def decode() -> object:
        request = decode_request(body, json_length)
        request_context(request.parameters)
        requested_outputs(request, signature)
        return decode_inputs(request, specs, required)

    return decode


def _encoder(array: np.ndarray[Any, Any], binary: frozenset[str]) -> Callable[[], object]:
    parameters = {"prediction_id": "0192f0a1c2d3" + "0" * 20, "role": "champion"}
    return lambda: encode_response(
        model_name="flights",
        model_version="1",
        request_id="17",
        parameters=parameters,
        outputs=[("p", "FP32", array)],
        binary=binary,
    )


def cases() -> dict[str, Callable[[], object]]:
    """The work that is measured, by name."""
    wide = {"x": TensorSpec("x", "FP32", (-1, 8))}
    named = {f"x{i}": TensorSpec(f"x{i}", "FP32", (-1, 1)) for i in range(8)}
    one, many = _wide(1), _wide(1000)
    everything = frozenset({"p"})
    return {
        "decode 1x8 JSON": _decoder(_wide_request(one), None, wide),
        "decode 1x8 nested JSON": _decoder(_wide_request(one, nested=True), None, wide),
        "decode 8 inputs of 1 JSON": _decoder(_named_request(one), None, named),
        "decode 1x8 binary": _decoder(*_binary_request(one), wide),
        "decode 1000x8 JSON": _decoder(_wide_request(many), None, wide),
        "decode 1000x8 nested JSON": _decoder(_wide_request(many, nested=True), None, wide),
        "decode 1000x8 binary": _decoder(*_binary_request(many), wide),
        "encode 1x1 JSON": _encoder(one[:, :1].copy(), frozenset()),
        "encode 1x8 JSON": _encoder(one, frozenset()),
        "encode 1x8 binary": _encoder(one, everything),
        "encode 1000x8 JSON": _encoder(many, frozenset()),
        "encode 1000x8 binary": _encoder(many, everything),
    }


def figures() -> list[dict[str, Any]]:
    """One figure a case: `name`, `value` (CPU per call) and `unit`."""
    return [
        {"name": name, "value": round(cpu_us(work), 2), "unit": "us"}
        for name, work in cases().items()
    ]


if __name__ == "__main__":
    for figure in figures():
        print(f"{figure['name']:28s} {figure['value']:9.2f} {figure['unit']}")
