"""The child process that runs one challenger: read a batch, run it, write what came out.

Run as `python -m gateway.runtimes.runner`; requests come on standard input, replies leave on
standard output. It imports onnxruntime, numpy and our pure core only, runs at its parent's
priority under a memory limit, and dies with its parent. Whatever kills it is the model's.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import BinaryIO

from gateway.core.records import TensorRecord
from gateway.core.tensors import from_raw, to_raw
from gateway.errors import AuditionError, NonFiniteOutput
from gateway.runtimes.messages import (
    LENGTH,
    BatchDone,
    BatchFailed,
    Loaded,
    LoadModel,
    Reply,
    RunBatch,
    decode_request,
    framed,
)
from gateway.runtimes.onnx import OnnxModel
from gateway.runtimes.repository import ModelRepository

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Serve requests until the parent is gone."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints must not end up between two replies
    _follow_the_parent()
    model: OnnxModel | None = None
    while (body := _read(requests)) is not None:
        request = decode_request.decode(body)
        if isinstance(request, LoadModel):
            model, reply = _load(request)
        else:
            assert model is not None, "a runner is told its model first"
            reply = _run(model, request)
        try:
            replies.write(framed(reply))
        except BrokenPipeError:
            break  # nobody waits for it any more
    return 0


def _follow_the_parent() -> None:
    """Die when the parent dies, and leave Ctrl-C to it; its priority is inherited already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _load(request: LoadModel) -> tuple[OnnxModel | None, Reply]:
    resource.setrlimit(resource.RLIMIT_AS, (request.memory_bytes, request.memory_bytes))
    try:
        content, folder = ModelRepository(Path(request.root)).read(request.facts)
        return OnnxModel(
            request.facts, content, folder=folder, providers=request.providers
        ), Loaded()
    except (AuditionError, MemoryError) as error:
        return None, BatchFailed("failed", str(error) or "out of memory")


def _run(model: OnnxModel, request: RunBatch) -> Reply:
    try:
        arrays = {t.name: from_raw(t.datatype, t.shape, t.data) for t in request.inputs}
        begun = time.perf_counter_ns()
        outputs = model.run(arrays)
        latency_us = (time.perf_counter_ns() - begun) // 1000
    except NonFiniteOutput as error:
        return BatchFailed("nonfinite", str(error))
    except (AuditionError, MemoryError) as error:
        return BatchFailed("failed", str(error) or "out of memory")
    records = [
        TensorRecord(name, model.datatypes[name], array.shape, to_raw(array))
        for name, array in outputs.items()
    ]
    return BatchDone(records, latency_us)


def _read(stream: BinaryIO) -> bytes | None:
    """The next request; None if the parent ended before it was whole."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    size = int(LENGTH.unpack(head)[0])
    body = stream.read(size)
    return body if len(body) == size else None


if __name__ == "__main__":
    sys.exit(main())
