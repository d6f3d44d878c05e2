"""The one place on each side where errors become status and status becomes errors."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from tunevane import log
from tunevane.errors import CancelledError, InternalError, InvalidRequestError, TunevaneError
from tunevane.rpc.status import DETAILS_KEY, code_of, from_rpc_error, to_status

# Requests and responses are whatever messages a method has, so `Any` is the honest type in this module.

_log = log.get("rpc")

STREAM_TIMEOUT_SECONDS = 24 * 3600.0


def _spoken(error: BaseException, method: str) -> TunevaneError:
    """Returns what a caller may see of an exception; an unexpected one goes to the log under an id."""
    if isinstance(error, TunevaneError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return CancelledError("the call was cancelled")
    error_id = uuid.uuid4().hex[:12]
    _log.error("unexpected error_id=%s method=%s", error_id, method, exc_info=error)
    return InternalError(
        f"something unexpected happened in {method}; the service's log has it under {error_id}",
        {"error_id": error_id},
    )


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Parses requests, runs the method, and turns whatever it raises into a status."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps the handler of one call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        # Parsing happens in the wrapper, so that bytes that are no message are the caller's error.
        wrapped = _Wrapped(handler, method)
        if handler.unary_unary or handler.stream_unary:
            make = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            return make(wrapped.answer, None, handler.response_serializer)
        make_stream = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )
        return make_stream(wrapped.stream, None, handler.response_serializer)


class _Wrapped:
    def __init__(self, handler: Any, method: str) -> None:
        self._handler = handler
        self._method = method
        behaviours = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
        self._behaviour = next(each for each in behaviours if each is not None)

    def _parse(self, data: Any) -> Any:
        parse = self._handler.request_deserializer
        if parse is None:
            return data
        try:
            return parse(data)
        except (DecodeError, ValueError, RecursionError) as error:
            raise InvalidRequestError("the request's bytes are not the message that this method takes") from error

    async def _parse_all(self, stream: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for data in stream:
            yield self._parse(data)

    def _request(self, given: Any) -> Any:
        return self._parse_all(given) if self._handler.request_streaming else self._parse(given)

    async def answer(self, given: Any, context: Any) -> Any:
        try:
            return await self._behaviour(self._request(given), context)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            await _abort(context, _spoken(error, self._method))

    async def stream(self, given: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for response in self._behaviour(self._request(given), context):
                yield response
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:
            await _abort(context, _spoken(error, self._method))


async def _abort(context: Any, error: TunevaneError) -> None:
    details = to_status(error).SerializeToString()
    await context.abort(code_of(error), error.message, trailing_metadata=((DETAILS_KEY, details),))


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any


class ClientInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
):
    """Gives every call a deadline and raises the classes of `tunevane.errors`."""

    def __init__(self, target: str, timeout_seconds: float) -> None:
        self._target = target
        self._timeout_seconds = timeout_seconds

    def _timed(self, details: Any, timeout_seconds: float) -> _Details:
        return _Details(
            details.method,
            timeout_seconds if details.timeout is None else details.timeout,
            details.metadata,
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )

    def _unary(self, continuation: Any, details: Any, request: Any, timeout_seconds: float) -> Any:
        outcome = continuation(self._timed(details, timeout_seconds), request)
        if isinstance(outcome, grpc.RpcError):
            raise from_rpc_error(outcome, self._target)
        return outcome

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Handles a call with one request and one response."""
        return self._unary(continuation, client_call_details, request, self._timeout_seconds)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Handles a call with many requests and one response."""
        return self._unary(continuation, client_call_details, request_iterator, STREAM_TIMEOUT_SECONDS)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """Handles a call with one request and many responses."""
        call = continuation(self._timed(client_call_details, STREAM_TIMEOUT_SECONDS), request)
        return _ResponseStream(call, self._target)


class _ResponseStream:
    """Iterates over responses; can be cancelled from another thread."""

    def __init__(self, call: Any, target: str) -> None:
        self._call = call
        self._target = target

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._target) from None

    def cancel(self) -> None:
        """Ends the call; the iteration then raises `CancelledError`."""
        self._call.cancel()
