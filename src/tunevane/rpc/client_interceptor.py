"""The one place of the synchronous client where calls get deadlines and status becomes errors."""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc

from tunevane.rpc.options import STREAM_TIMEOUT_SECONDS
from tunevane.rpc.status import from_rpc_error

# Requests and responses are whatever messages a method has, so `Any` is the honest type in this module.


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class _Call:
    """One call; everything but its errors is grpc's. Can be cancelled from another thread."""

    def __init__(self, call: Any, target: str) -> None:
        self._call = call
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def result(self, timeout: float | None = None) -> Any:
        """Waits for the response."""
        try:
            return self._call.result(timeout)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._target) from error

    def __iter__(self) -> _Call:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._target) from error


class ClientInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Gives every call a deadline and raises the classes of `tunevane.errors`."""

    def __init__(self, target: str, timeout_seconds: float) -> None:
        self._target = target
        self._timeout_seconds = timeout_seconds

    def _call(self, continuation: Any, details: Any, request: Any, timeout_seconds: float) -> _Call:
        timed = _Details(
            details.method,
            timeout_seconds if details.timeout is None else details.timeout,
            details.metadata,
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )
        return _Call(continuation(timed, request), self._target)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Handles a call with one request and one response."""
        return self._call(continuation, client_call_details, request, self._timeout_seconds)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Handles a call with many requests and one response."""
        return self._call(continuation, client_call_details, request_iterator, STREAM_TIMEOUT_SECONDS)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Handles a call with one request and many responses."""
        return self._call(continuation, client_call_details, request, STREAM_TIMEOUT_SECONDS)

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Handles a call with many requests and many responses."""
        return self._call(continuation, client_call_details, request_iterator, STREAM_TIMEOUT_SECONDS)
