"""What the shadow lane and a runner say to each other: length-prefixed MessagePack on pipes.

The runner is handed whole batches as raw bytes and gives whole batches back; it knows
neither predictions nor endpoints.
"""

from __future__ import annotations

import struct

import msgspec

from gateway.core.records import TensorRecord
from gateway.core.routes import VersionFacts

LENGTH = struct.Struct("<I")


class LoadModel(msgspec.Struct, tag="load", array_like=True):
    """The first message: which model to hold, in how much memory, and on what it runs."""

    facts: VersionFacts
    root: str
    memory_bytes: int
    providers: tuple[str, ...] = ("cpu",)


class RunBatch(msgspec.Struct, tag="run", array_like=True):
    """Run the model once on these inputs."""

    inputs: list[TensorRecord]


class Loaded(msgspec.Struct, tag="loaded", array_like=True):
    """The model is warm."""


class BatchDone(msgspec.Struct, tag="done", array_like=True):
    """The outputs of one run and how long it took."""

    outputs: list[TensorRecord]
    latency_us: int


class BatchFailed(msgspec.Struct, tag="failed", array_like=True):
    """The model raised, or gave NaN (`status` nonfinite)."""

    status: str
    error: str


Request = LoadModel | RunBatch
Reply = Loaded | BatchDone | BatchFailed

_encoder = msgspec.msgpack.Encoder()
decode_request: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
decode_reply: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def framed(message: Request | Reply) -> bytes:
    """The message behind its length."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body
