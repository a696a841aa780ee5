"""What a stranger may send to a real gateway: each is refused, and nobody else notices.

The statuses and the size of every refusal are those of docs/errors.md; the same requests are
tried at each layer by the tests of gateway/protocols and gateway/core.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from contextlib import suppress
from typing import Any

import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from tests import models
from tests.flows.endpoints import CLIENTS
from tests.serving_process import ServingProcess

INFER = f"/v2/models/{CLIENTS}/infer"
GIB = 1 << 30


def _inputs(**changes: dict[str, Any]) -> list[dict[str, Any]]:
    good = {
        "in_fp32": {"shape": [1, 1], "datatype": "FP32", "data": [1]},
        "in_int64": {"shape": [1, 1], "datatype": "INT64", "data": [1]},
        "in_bytes": {"shape": [1, 1], "datatype": "BYTES", "data": ["a"]},
    }
    tensors = {name: {"name": name, **good[name], **changes.get(name, {})} for name in good}
    return [
        {key: value for key, value in tensor.items() if value is not None}
        for tensor in tensors.values()
    ]


def _json(**changes: dict[str, Any]) -> dict[str, Any]:
    return {"content": json.dumps({"inputs": _inputs(**changes)}).encode()}


def _binary(tail: bytes, **sizes: Any) -> dict[str, Any]:
    """The inputs that have a size come as binary, behind the JSON."""
    changes = {
        name: {"data": None, "parameters": {"binary_data_size": size}}
        for name, size in sizes.items()
    }
    head = json.dumps({"inputs": _inputs(**changes)}).encode()
    return {"content": head + tail, "headers": {"inference-header-content-length": str(len(head))}}


def _packed(coding: str, body: bytes) -> dict[str, Any]:
    pack = gzip.compress if coding == "gzip" else zlib.compress
    return {"content": pack(body), "headers": {"content-encoding": coding}}


_BOMB = b" " * (64 << 20)
_LENGTH = struct.Struct("<I").pack
BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "a gzip bomb": (_packed("gzip", _BOMB), 413, "body"),
    "a deflate bomb": (_packed("deflate", _BOMB), 413, "body"),
    "packed twice": (
        {"content": gzip.compress(b"{}"), "headers": {"content-encoding": "gzip, gzip"}},
        415,
        "Content-Encoding",
    ),
    "a size that is too large": (_binary(b"\0" * 4, in_fp32=5), 400, "inputs[0].parameters"),
    "a size that is too small": (_binary(b"\0" * 4, in_fp32=3), 400, "body"),
    "a size of another shape": (_binary(b"\0" * 8, in_fp32=8), 400, "inputs[0].data"),
    "a negative size": (_binary(b"\0" * 4, in_fp32=-4), 400, "inputs[0].parameters"),
    "a size beyond 64 bits": (_binary(b"\0" * 4, in_fp32=2**70), 400, "inputs[0].parameters"),
    "a size that is no integer": (_binary(b"\0" * 4, in_fp32=4.0), 400, "inputs[0].parameters"),
    "sizes that overlap": (_binary(b"\0" * 8, in_fp32=4, in_int64=8), 400, "inputs[1].parameters"),
    "a GiB in a hundred bytes": (_binary(b"\0" * 4, in_fp32=GIB), 400, "inputs[0].parameters"),
    "a GiB of shape": (_json(in_fp32={"shape": [GIB // 4, 1]}), 400, "inputs[0].data"),
    "a negative shape": (_json(in_fp32={"shape": [-1, 1]}), 400, "inputs[0].shape[0]"),
    "a shape that overflows": (
        _json(in_fp32={"shape": [2**31 - 1, 2**31 - 1]}),
        400,
        "inputs[0].shape",
    ),
    "a dimension beyond 64 bits": (_json(in_fp32={"shape": [2**64, 1]}), 400, "inputs[0].shape"),
    "no rows in one input": (
        _json(in_fp32={"shape": [0, 1], "data": []}),
        400,
        "inputs[1].shape[0]",
    ),
    "a text of a GiB": (_binary(_LENGTH(GIB) + b"a", in_bytes=5), 400, "inputs[2].data[0]"),
    "a text without its length": (_binary(b"\1\0", in_bytes=2), 400, "inputs[2].data[0]"),
    "bytes behind the text": (_binary(_LENGTH(1) + b"ab", in_bytes=6), 400, "inputs[2].data"),
    "text that is no UTF-8": (_binary(_LENGTH(1) + b"\xff", in_bytes=5), 400, "inputs"),
    "JSON that is no UTF-8": ({"content": b'{"inputs":[],"id":"\xff"}'}, 400, "body"),
    "nesting without end": ({"content": b'{"inputs":' + b"[" * 100_000}, 400, ""),
}


def _lasting(gateway: ServingProcess) -> dict[int, int]:
    """The resident bytes of each process that is no challenger's and no inspection's."""
    found = {}
    for one in gateway.descendants():
        with suppress(psutil.NoSuchProcess):
            if not any("gateway.runtimes" in word for word in one.cmdline()):
                found[one.pid] = one.memory_info().rss
    return found


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_where_it_is_wrong(gateway: ServingProcess, name: str) -> None:
    """With its status and the path of the fault, in few words."""
    options, status, field = BAD[name]
    with gateway.http() as http:
        answer = http.post(INFER, **options)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error.startswith(field), error
    assert len(error) < 500


def test_bad_input_costs_no_worker_and_no_memory(gateway: ServingProcess) -> None:
    """Each of them many times: the same processes answer, and none has grown by 256 MiB."""
    before = _lasting(gateway)
    with gateway.http() as http:
        for _ in range(8):
            for options, status, _ in BAD.values():
                assert http.post(INFER, **options).status_code == status
        assert http.post(INFER, **_json()).status_code == 200
    after = _lasting(gateway)
    assert before.keys() <= after.keys(), "a process is gone"
    grown = {pid: after[pid] - size for pid, size in before.items()}
    assert max(grown.values()) < 256 << 20, grown


def _unknown_operator(domain: str) -> bytes:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in "xy"]
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain=domain)
    graph = helper.make_graph([node], "test", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("our.own", 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_unknown_operator("our.own"), "Frobnicate"),
        (_unknown_operator(""), "Frobnicate"),
        (models.sequence_output(), "output y has type seq(tensor(float))"),
        (models.map_output(), "output y has type seq(map("),
        (b"\x08", "no ONNX model"),
    ],
    ids=["operator of others", "operator of nobody", "sequence", "map", "no model"],
)
def test_a_model_that_cannot_be_served_is_refused_by_its_fault(
    gateway: ServingProcess, content: bytes, said: str
) -> None:
    """422 when it is added, and the endpoint has no new version."""
    path = f"/v1/endpoints/{CLIENTS}/versions"
    epoch = gateway.status(CLIENTS)["epoch"]
    headers = {"content-type": "application/octet-stream", "if-match": f'"{epoch}"'}
    with gateway.http("operate") as http:
        answer = http.post(path, content=content, params={"version": "odd"}, headers=headers)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["error"]
    assert gateway.status(CLIENTS)["epoch"] == epoch
