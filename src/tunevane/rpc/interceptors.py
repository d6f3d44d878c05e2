"""The one place of a server where requests are parsed, errors become status, and calls end at shutdown."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from tunevane import log
from tunevane.errors import InternalError, InvalidRequestError, TunevaneError, UnavailableError
from tunevane.rpc.status import DETAILS_KEY, code_of, to_status

# Requests and responses are whatever messages a method has, so `Any` is the honest type in this module.

_log = log.get("rpc")

_ENDLESS = "/grpc."
"""Methods of grpc's own services: a health watch never ends by itself, so nobody waits for it."""


def _spoken(error: Exception, method: str) -> TunevaneError:
    """Returns what a caller may see of an exception; an unexpected one goes to the log under an id."""
    if isinstance(error, TunevaneError):
        return error
    error_id = uuid.uuid4().hex[:12]
    _log.error("unexpected error_id=%s method=%s", error_id, method, exc_info=error)
    return InternalError(
        f"something unexpected happened in {method}; the service's log has it under {error_id}",
        {"error_id": error_id},
    )


class Calls:
    """The calls under way, so that a shutdown can wait for them and then end the rest."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], str] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self.ended: set[asyncio.Task[Any]] = set()
        """Tasks that a shutdown ended; their callers hear UNAVAILABLE and go elsewhere."""

    @contextmanager
    def entered(self, method: str) -> Iterator[None]:
        """Counts the current task as a call."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = method
        self._idle.clear()
        try:
            yield
        finally:
            del self._tasks[task]
            self.ended.discard(task)
            if not self._tasks:
                self._idle.set()

    def ended_here(self) -> bool:
        """Tells whether a shutdown ended the call of the current task."""
        return asyncio.current_task() in self.ended

    def _end(self, prefix: str) -> None:
        for task, method in self._tasks.items():
            if method.startswith(prefix) and task not in self.ended:
                self.ended.add(task)
                task.cancel()

    async def drain(self, seconds: float) -> None:
        """Waits until no call is under way, and ends those that take longer."""
        self._end(_ENDLESS)
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            _log.warning("ending %d calls that were not done after %g seconds", len(self._tasks), seconds)
            self._end("")


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Parses requests, runs the method, and turns whatever it raises into a status."""

    def __init__(self) -> None:
        self.calls = Calls()

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
        wrapped = _Wrapped(handler, method, self.calls)
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
    def __init__(self, handler: Any, method: str, calls: Calls) -> None:
        self._handler = handler
        self._method = method
        self._calls = calls
        behaviours = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
        self._behaviour = next(each for each in behaviours if each is not None)

    def _parse(self, data: Any) -> Any:
        parse = self._handler.request_deserializer
        if parse is None:
            return data
        try:
            return parse(data)
        except (DecodeError, ValueError, RecursionError) as error:
            raise InvalidRequestError(
                f"the request's bytes are not the message that {self._method} takes; client and service may be of"
                " different versions"
            ) from error

    async def _parse_all(self, stream: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for data in stream:
            yield self._parse(data)

    def _request(self, given: Any) -> Any:
        return self._parse_all(given) if self._handler.request_streaming else self._parse(given)

    async def answer(self, given: Any, context: Any) -> Any:
        with self._calls.entered(self._method):
            try:
                return await self._behaviour(self._request(given), context)
            except grpc.aio.AbortError:
                # The method chose a status itself, as grpc's health service does.
                raise
            except asyncio.CancelledError:
                if not self._calls.ended_here():
                    raise
                await _abort(context, self._shutdown())
            except Exception as error:
                await _abort(context, _spoken(error, self._method))

    async def stream(self, given: Any, context: Any) -> AsyncIterator[Any]:
        with self._calls.entered(self._method):
            try:
                responses = self._behaviour(self._request(given), context)
                if inspect.isawaitable(responses):
                    # A method that writes through its context, as grpc's health service does.
                    await responses
                else:
                    async for response in responses:
                        yield response
            except grpc.aio.AbortError:
                raise
            except asyncio.CancelledError:
                if not self._calls.ended_here():
                    raise
                await _abort(context, self._shutdown())
            except Exception as error:
                await _abort(context, _spoken(error, self._method))

    def _shutdown(self) -> UnavailableError:
        return UnavailableError(f"the service shuts down and ended {self._method}; repeat the call")


async def _abort(context: Any, error: TunevaneError) -> None:
    status = to_status(error)
    await context.abort(code_of(error), status.message, trailing_metadata=((DETAILS_KEY, status.SerializeToString()),))
