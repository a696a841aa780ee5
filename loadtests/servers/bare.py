"""The honest minimum: uvicorn, uvloop, httptools, orjson and the model, and nothing else.

It speaks the same protocol as the gateway but checks nothing, records nothing and knows one
model: what is measured above it is what a gateway costs.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import orjson
import uvicorn

from loadtests.servers.tree_model import INPUT, OUTPUT, open_model

_session = open_model()
_HEADERS = (b"content-type", b"application/json")


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer one inference request of one input; any other request is a readiness check."""
    if scope["method"] != "POST":
        await _send(send, b"{}")
        return
    message = await receive()
    body = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    tensor = orjson.loads(body)["inputs"][0]
    array = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
    (result,) = _session.run([OUTPUT], {INPUT: array})
    output = {"name": OUTPUT, "datatype": "FP32", "shape": result.shape, "data": result.ravel()}
    answer = {"model_name": "trees", "outputs": [output]}
    await _send(send, orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))


async def _send(send: Callable[[dict[str, Any]], Awaitable[None]], body: bytes) -> None:
    headers = [_HEADERS, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
    )
