"""KServe's own REST client against a gateway; runs in its own environment, writes JSON.

Arguments: the gateway's URL and an endpoint that gives `in_…` back as `out_…`.
"""

from __future__ import annotations

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

COLUMNS = {
    "fp32": (np.array([[1.5], [-0.1]], np.float32), "FP32"),
    "int64": (np.array([[-(2**63)], [2**63 - 1]], np.int64), "INT64"),
    "bytes": (np.array([["naïve"], [""]], np.object_), "BYTES"),
}


def _request(columns: list[str], *, binary: bool) -> InferRequest:
    inputs = []
    for name in columns:
        array, datatype = COLUMNS[name]
        one = InferInput(f"in_{name}", list(array.shape), datatype)
        one.set_data_from_numpy(array, binary_data=binary)
        inputs.append(one)
    outputs = [RequestedOutput(f"out_{name}", {"binary_data": binary}) for name in columns]
    return InferRequest("ignored", inputs, request_id="mine", request_outputs=outputs)


async def _main(url: str, endpoint: str) -> dict[str, object]:
    config = RESTConfig(protocol="v2", timeout=120)
    client = InferenceRESTClient(config)
    said: dict[str, object] = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model_ready": await client.is_model_ready(url, endpoint),
    }
    for form, binary in (("json", False), ("binary", True)):
        answer = await client.infer(url, _request(list(COLUMNS), binary=binary), endpoint)
        said[form] = {
            "id": answer.id,
            "model": answer.model_name,
            "outputs": {one.name: _elements(one.as_numpy()) for one in answer.outputs},
        }
    try:
        await client.infer(url, _request(["fp32"], binary=False), "nobody")
    except httpx.HTTPStatusError as error:
        said["error"] = str(error)
    return said


def _elements(array: np.ndarray) -> list[object]:
    return [one.decode() if isinstance(one, bytes) else one for one in array.ravel().tolist()]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_main(sys.argv[1], sys.argv[2]))))
