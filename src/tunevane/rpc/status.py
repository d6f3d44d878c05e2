"""Errors to `google.rpc.Status` and back into the same class.

The message is the sentence, `ErrorInfo` carries reason and details, `BadRequest` the problems of an invalid
request, `RetryInfo` the seconds to wait. A peer that is not tunevane is understood by its code alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from tunevane import errors
from tunevane.errors import InvalidRequestError, Problem, TunevaneError

DETAILS_KEY = "grpc-status-details-bin"
MAX_MESSAGE_CHARACTERS = 4000
MAX_PROBLEMS = 50


def code_of(error: TunevaneError) -> grpc.StatusCode:
    """Returns the gRPC status code of an error."""
    return grpc.StatusCode[error.code]


def to_status(error: TunevaneError) -> status_pb2.Status:
    """States an error as a message."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=error.message[:MAX_MESSAGE_CHARACTERS])
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=errors.DOMAIN, metadata=error.details)
    status.details.add().Pack(info)
    if isinstance(error, InvalidRequestError | errors.ConfigurationError):
        request = error_details_pb2.BadRequest()
        for problem in error.problems[:MAX_PROBLEMS]:
            request.field_violations.add(field=problem.field, description=problem.message)
        status.details.add().Pack(request)
    if "retry_after_seconds" in error.details:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(float(error.details["retry_after_seconds"]) * 1000))
        status.details.add().Pack(retry)
    return status


def from_status(status: status_pb2.Status) -> TunevaneError:
    """Returns the error that a status states."""
    info = error_details_pb2.ErrorInfo()
    problems: list[Problem] = []
    request = error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(request.DESCRIPTOR):
            detail.Unpack(request)
            problems = [Problem(each.field, each.description) for each in request.field_violations]
    try:
        code = code_pb2.Code.Name(status.code)
    except ValueError:
        code = "UNKNOWN"
    cls = _class_for(info.reason if info.domain == errors.DOMAIN else "", code)
    details = dict(info.metadata)
    if issubclass(cls, InvalidRequestError | errors.ConfigurationError):
        return cls(problems or status.message, details)
    return cls(status.message, details)


def _class_for(reason: str, code: str) -> type[TunevaneError]:
    classes = list(errors.walk())
    by_reason = [cls for cls in classes if cls.reason == reason]
    by_code = [cls for cls in classes if cls.code == code]
    return (by_reason or by_code or [TunevaneError])[0]


def from_rpc_error(error: grpc.RpcError, target: str = "") -> TunevaneError:
    """Returns the error that a failed call stands for.

    Args:
        error: What grpc raised.
        target: Address of the server, for messages that are ours.

    """
    code = error.code() if hasattr(error, "code") else grpc.StatusCode.UNKNOWN
    text = (error.details() if hasattr(error, "details") else None) or ""
    packed = _details(error.trailing_metadata() or () if hasattr(error, "trailing_metadata") else ())
    if packed is not None:
        return from_status(packed)
    if code is grpc.StatusCode.UNAVAILABLE:
        text = f"nothing answers at {target}: {text}" if target else text
    status = status_pb2.Status(code=code.value[0], message=text or code.name)
    return from_status(status)


# Any: grpc has no type for metadata that all its versions share.
def _details(metadata: Iterable[Any]) -> status_pb2.Status | None:
    for key, value in metadata:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None
