"""Errors as gRPC statuses: one table, and what an error adds to its status."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc.aio import ServicerContext

from gateway.errors import (
    AuditionError,
    BodyTooLarge,
    Conflict,
    CorruptStore,
    Forbidden,
    InvalidInput,
    InvalidModel,
    InvalidName,
    InvalidSetting,
    JournalUnavailable,
    ModelFailed,
    ModelTimedOut,
    Overloaded,
    Refused,
    StoreUnavailable,
    Unauthenticated,
    UnknownEndpoint,
    UnknownVersion,
)

Context: TypeAlias = ServicerContext[Any, Any]
#: From the bytes of a message to the bytes of the answer.
Rpc = Callable[[bytes, Context], Awaitable[bytes]]

#: The first class of an error's ancestry that stands here decides its status.
STATUSES: dict[type[BaseException], StatusCode] = {
    BodyTooLarge: StatusCode.RESOURCE_EXHAUSTED,
    InvalidInput: StatusCode.INVALID_ARGUMENT,
    InvalidName: StatusCode.INVALID_ARGUMENT,
    InvalidSetting: StatusCode.INVALID_ARGUMENT,
    InvalidModel: StatusCode.INVALID_ARGUMENT,
    UnknownEndpoint: StatusCode.NOT_FOUND,
    UnknownVersion: StatusCode.NOT_FOUND,
    Unauthenticated: StatusCode.UNAUTHENTICATED,
    Forbidden: StatusCode.PERMISSION_DENIED,
    Conflict: StatusCode.ABORTED,
    Refused: StatusCode.FAILED_PRECONDITION,
    ModelTimedOut: StatusCode.DEADLINE_EXCEEDED,
    ModelFailed: StatusCode.INTERNAL,
    Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    JournalUnavailable: StatusCode.UNAVAILABLE,
    StoreUnavailable: StatusCode.UNAVAILABLE,
    CorruptStore: StatusCode.UNAVAILABLE,
}

_logger = logging.getLogger(__name__)


def status_of(error: AuditionError) -> StatusCode:
    """The gRPC status of an error."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def answering(rpc: Rpc) -> Rpc:
    """The same call, its errors as statuses with their messages."""

    async def answered(body: bytes, context: Context) -> bytes:
        try:
            return await rpc(body, context)
        except AuditionError as error:
            await _refuse(context, error)
        except Exception:
            _logger.exception("a gRPC call failed")
            await context.abort(StatusCode.INTERNAL, "internal server error")

    return answered


async def _refuse(context: Context, error: AuditionError) -> NoReturn:
    code, message = status_of(error), str(error)
    if isinstance(error, Overloaded):
        context.set_trailing_metadata(_retry_info(code, message, error.retry_after_s))
    await context.abort(code, message)


def _retry_info(
    code: StatusCode, message: str, retry_after_s: int
) -> tuple[tuple[str, str | bytes], ...]:
    """When to try again, where gRPC's own error model has it."""
    details = AnyMessage()
    info = RetryInfo()
    info.retry_delay.FromSeconds(retry_after_s)
    details.Pack(info)
    status = Status(code=code.value[0], message=message, details=[details])
    return (("grpc-status-details-bin", status.SerializeToString()),)
