"""FastAPI and onnxruntime: what most teams write by hand."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from loadtests.peers.served_model import ServedModel, rows_of


class Tensor(BaseModel):
    """One tensor of the protocol."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Request(BaseModel):
    """A request of the protocol."""

    inputs: list[Tensor]


app = FastAPI()
_model = ServedModel()


@app.get("/health")
def health() -> dict[str, bool]:
    """Whether the server is up."""
    return {"ready": True}


@app.post("/infer")
async def infer(request: Request) -> dict[str, Any]:
    """Answer one request; on the event loop, where a short run costs least."""
    return _model.document(_model.run(rows_of([request.inputs[0].model_dump()])))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
