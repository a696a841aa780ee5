"""A runner that misbehaves on purpose: what it does stands in its arguments.

`stub_runner.py MODE STARTS`: every start adds a byte to the file STARTS. A batch without 13
among its numbers is doubled; one with it is answered as MODE says.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from gateway.core.records import TensorRecord
from gateway.core.tensors import from_raw, to_raw
from gateway.runtimes.messages import (
    LENGTH,
    BatchDone,
    BatchFailed,
    Loaded,
    LoadModel,
    Reply,
    decode_request,
    framed,
)


def misbehave(mode: str) -> None:
    """Die, hang, or talk nonsense."""
    if mode == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "exit":
        os._exit(3)
    if mode == "sleep":
        time.sleep(600)
    if mode == "spin":
        while True:
            pass
    if mode == "nonsense":
        os.write(1, LENGTH.pack(3) + b"abc")


def answer(tensor: TensorRecord, mode: str) -> Reply:
    """Twice what was sent; one row too few in mode `short`."""
    array = from_raw(tensor.datatype, tensor.shape, tensor.data) * np.float32(2)
    if mode == "short" and 26 in array:
        array = array[:1]
    return BatchDone([TensorRecord("y", "FP32", array.shape, to_raw(array))], 7)


def main(mode: str, starts: Path) -> None:
    """Serve until standard input ends."""
    with starts.open("ab") as file:
        file.write(b".")
    if mode == "deaf":
        time.sleep(600)
    while len(head := sys.stdin.buffer.read(LENGTH.size)) == LENGTH.size:
        request = decode_request.decode(sys.stdin.buffer.read(LENGTH.unpack(head)[0]))
        if isinstance(request, LoadModel):
            reply: Reply = Loaded() if mode != "refuse" else BatchFailed("failed", "no such file")
        else:
            tensor = request.inputs[0]
            if 13 in from_raw(tensor.datatype, tensor.shape, tensor.data):
                misbehave(mode)
            reply = answer(tensor, mode)
        os.write(1, framed(reply))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
