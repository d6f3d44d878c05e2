"""Errors to `google.rpc.Status` and back into the same class.

The message is the sentence, `ErrorInfo` carries reason and details, `BadRequest` the problems of an invalid
request, `RetryInfo` the seconds to wait. A peer that is not tunevane is understood by its code alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from tunevane import errors
from tunevane.errors import InvalidRequestError, Problem, TunevaneError

DETAILS_KEY = "grpc-status-details-bin"
MAX_STATUS_BYTES = 16 << 10
"""A status travels as metadata, for which clients have room for 64 KiB, once encoded and once as text."""

_MAX_TEXT = 2000
"""Characters of a message, a detail or a problem; as text on the wire one takes up to 12 bytes."""

_MAX_PROBLEMS = 50
_MAX_DETAILS = 20
_MAX_RETRY_SECONDS = 30 * 24 * 3600.0
_WITH_PROBLEMS = (errors.InvalidRequestError, errors.ConfigurationError)


def code_of(error: TunevaneError) -> grpc.StatusCode:
    """Returns the gRPC status code of an error."""
    return grpc.StatusCode[error.code]


def to_status(error: TunevaneError) -> status_pb2.Status:
    """States an error as a message of at most `MAX_STATUS_BYTES`; what is longer is cut."""
    problems = error.problems[:_MAX_PROBLEMS] if isinstance(error, _WITH_PROBLEMS) else ()
    length = _MAX_TEXT
    status = _status(error, problems, length)
    while status.ByteSize() > MAX_STATUS_BYTES:
        problems, length = problems[: len(problems) // 2], max(length // 2, 20)
        status = _status(error, problems, length)
        if not problems and length == 20:
            break
    return status


def _status(error: TunevaneError, problems: Sequence[Problem], length: int) -> status_pb2.Status:
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=_cut(error.message, length))
    details = {_cut(name, 60): _cut(value, length) for name, value in list(error.details.items())[:_MAX_DETAILS]}
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=errors.DOMAIN, metadata=details))
    if problems:
        request = error_details_pb2.BadRequest()
        for problem in problems:
            request.field_violations.add(field=_cut(problem.field, length), description=_cut(problem.message, length))
        status.details.add().Pack(request)
    try:
        seconds = float(error.details["retry_after_seconds"])
    except (KeyError, ValueError):
        return status
    if 0 <= seconds < _MAX_RETRY_SECONDS:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(seconds * 1000))
        status.details.add().Pack(retry)
    return status


def _cut(text: str, length: int) -> str:
    # A lone surrogate is no UTF-8, and an error about bad text must not be another error.
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= length else clean[: length - 1] + "…"


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
    text = (error.details() if hasattr(error, "details") else None) or code.name
    packed = _details(error.trailing_metadata() or () if hasattr(error, "trailing_metadata") else ())
    if packed is not None:
        return from_status(packed)
    place = f" at {target}" if target else ""
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            text = f"nothing answers{place} ({text}); check that the service runs there, and try again"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            text = f"the service{place} did not answer before the call's deadline; give the call more time"
        case grpc.StatusCode.UNIMPLEMENTED:
            text = f"the service{place} does not know this call ({text}); its version may differ from this one"
        case grpc.StatusCode.CANCELLED:
            text = f"the call to the service{place} was cancelled"
        case _:
            text = f"the service{place} answered {code.name}: {text}"
    return from_status(status_pb2.Status(code=code.value[0], message=text))


# Any: grpc has no type for metadata that all its versions share.
def _details(metadata: Iterable[Any]) -> status_pb2.Status | None:
    for key, value in metadata:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None
