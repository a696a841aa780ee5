"""The Open Inference Protocol v2 over REST as pure functions: bytes ↔ tensors.

Rules: no HTTP, no model, no clock here, and no state but caches that are bounded. All that
a client can do wrong comes out as InvalidInput with the path of the offending part. This is
the hot path: `loadtests/bench_codec.py` measures it. In order of use: `decode_request`,
`request_context`, `decode_inputs`, `requested_outputs`, `encode_response`.
"""

from __future__ import annotations

from gateway.protocols.oip_inputs import decode_inputs
from gateway.protocols.oip_request import (
    InferRequest,
    InputTensor,
    RequestedOutput,
    convert_request,
    decode_request,
)
from gateway.protocols.oip_response import OutputChoice, encode_response, requested_outputs
from gateway.protocols.request_context import RequestContext, request_context

__all__ = [
    "InferRequest",
    "InputTensor",
    "OutputChoice",
    "RequestContext",
    "RequestedOutput",
    "convert_request",
    "decode_inputs",
    "decode_request",
    "encode_response",
    "request_context",
    "requested_outputs",
]
