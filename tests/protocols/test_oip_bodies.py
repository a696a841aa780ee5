"""Bodies: raw tensors, chunks, compression, limits, and what is not spoken."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput

from tests import models
from tests.protocols.door import GOOD, INFER, LIMIT_BYTES, Door, MakeDoor, sent


def _binary(data: bytes, *, size: int = 12, length: str | None = None) -> dict[str, Any]:
    head = json.dumps(sent(data=None, parameters={"binary_data_size": size})).encode()
    head = head.replace(b', "data": null', b"")
    shown = str(len(head)) if length is None else length
    return {"content": head + data, "headers": {"inference-header-content-length": shown}}


def test_raw_tensors_are_taken_and_given(door: Door) -> None:
    """Little-endian, behind the JSON, both ways."""
    sent = _binary(np.array([0, 1, 2], "<f4").tobytes())
    assert door.post(**sent).json()["outputs"][0]["data"] == [8.0]
    answer = door.post({**GOOD, "parameters": {"binary_data_output": True}})
    length = int(answer.headers["inference-header-content-length"])
    head = json.loads(answer.content[:length])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 4}
    assert answer.content[length:] == np.array([8], "<f4").tobytes()


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (_binary(b"\0" * 8), "inputs[0].parameters.binary_data_size"),
        (_binary(b"\0" * 16), "body"),
        (_binary(b"\0" * 8, size=8), "inputs[0].data"),
        (_binary(b"\0" * 12, size=-1), "inputs[0].parameters.binary_data_size"),
        (_binary(np.array([0, 1, np.nan], "<f4").tobytes()), "inputs[0].data"),
        (_binary(np.array([0, 1, np.inf], "<f4").tobytes()), "inputs[0].data"),
        (_binary(b"\0" * 12, length="0"), "Inference-Header-Content-Length"),
        (_binary(b"\0" * 12, length="20000"), "Inference-Header-Content-Length"),
        (_binary(b"\0" * 12, length="-5"), "Inference-Header-Content-Length"),
        (_binary(b"\0" * 12, length="12.0"), "Inference-Header-Content-Length"),
        (_binary(b"\0" * 12, length="9" * 5000), "Inference-Header-Content-Length"),
        (_binary(b"\0" * 12, length="7"), "body"),
        ({"headers": {"x-unit": "u" * 257}}, "x-unit"),
        ({"headers": {"x-unit": ""}}, "x-unit"),
    ],
)
def test_bad_headers_and_raw_tensors_are_refused(
    door: Door, sent: dict[str, Any], field: str
) -> None:
    """Truncated, overlong, not finite, and lengths that do not add up."""
    answer = door.post(**sent)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].startswith(field)
    assert door.outcomes() == [("undecodable", "undecodable", 1)]


def _chunks(total: int) -> Iterator[bytes]:
    for _ in range(total // 1000):
        yield b" " * 1000


@pytest.mark.parametrize(
    ("options", "status", "field"),
    [
        ({"content": b" " * (LIMIT_BYTES + 1)}, 413, "body"),
        ({"content": _chunks(2 * LIMIT_BYTES)}, 413, "body"),
        (
            {
                "content": gzip.compress(b" " * (30 << 20), 1)[:LIMIT_BYTES],
                "headers": {"content-encoding": "gzip"},
            },
            413,
            "body",
        ),
        ({"headers": {"content-encoding": "br"}}, 415, "Content-Encoding"),
        ({"headers": {"content-encoding": "gzip"}}, 400, "body"),
        (
            {"content": b"\x80\x04N.", "headers": {"content-type": "application/x-pickle"}},
            415,
            "Content-Type",
        ),
    ],
)
def test_bodies_that_are_too_much_or_not_spoken_are_refused(
    door: Door, options: dict[str, Any], status: int, field: str
) -> None:
    """Each is a row on record, like every other request that came to nothing."""
    answer = door.post(**options)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"].startswith(field)
    assert door.outcomes() == [("undecodable", "undecodable", 1)]
    assert door.post().status_code == 200


def test_the_limit_holds_on_the_short_way_too(door: Door) -> None:
    """A body over it goes the long way, where it is refused and recorded."""
    target = door.inference.target(INFER)
    assert target is not None
    body = json.dumps(GOOD).encode()
    assert door.inference.answer_now(target, {}, body + b" " * LIMIT_BYTES) is None
    assert door.records() == []
    found = door.inference.answer_now(target, {}, body)
    assert found is not None
    assert found.status == 200


def test_chunked_and_compressed_bodies_are_read(door: Door) -> None:
    """As public clients send them."""
    body = json.dumps(GOOD).encode()
    pieces = iter([body[:10], body[10:20], body[20:]])
    assert door.post(content=pieces).status_code == 200
    for name, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        assert door.post(content=packed, headers={"content-encoding": name}).status_code == 200
    assert {status for status, *_ in door.outcomes()} == {"ok"}


def test_pickles_are_refused_on_every_route(door: Door) -> None:
    """Also on those that read no body."""
    pickled = {"content-type": "application/vnd.bentoml+pickle"}
    for path in ("/v2", "/v2/health/live", "/v2/models/demo", "/v2/nowhere"):
        assert door.get(path, headers=pickled).status_code == 415


def test_a_client_that_hangs_up_leaves_no_record(door: Door) -> None:
    """Its body never came: nothing was accepted, and nobody is answered."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": INFER, "headers": []}
    asyncio.run(door.app(scope, receive, send))
    assert sent == []
    assert door.records() == []


@pytest.mark.parametrize("datatype", models.ONNX_TYPES)
def test_the_public_clients_tensors_come_back(make_door: MakeDoor, datatype: str) -> None:
    """What tritonclient packs, in every datatype, it unpacks the same from our answer."""
    door = make_door({"1": models.identity(datatype)})
    kind = {"BYTES": np.object_, "FP16": np.float16}.get(datatype)
    fed = np.array([[b"a", "ü".encode()]], dtype=object) if datatype == "BYTES" else None
    if fed is None:
        spec = door.table.inputs["x"]
        fed = np.array([[0, 1]]).astype(kind or spec.kind.dtype)
    tensor = InferInput("x", [1, 2], datatype)
    tensor.set_data_from_numpy(fed)
    body, length = InferenceServerClient.generate_request_body([tensor])
    headers = {"inference-header-content-length": str(length)} if length else {}
    answer = door.post(content=bytes(body), headers=headers)
    assert answer.status_code == 200, answer.text
    result = InferenceServerClient.parse_response_body(
        answer.content, header_length=_length(answer)
    )
    assert result.as_numpy("y").tolist() == fed.tolist()


def _length(answer: Any) -> int | None:
    found = answer.headers.get("inference-header-content-length")
    return None if found is None else int(found)
