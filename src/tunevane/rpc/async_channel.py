"""The asyncio channel: a deadline on every call, errors as classes of `tunevane.errors`.

It wraps calls instead of using grpc's interceptors, because those run every call in one more task and hide
the call behind it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any, Self

import grpc

from tunevane.rpc.options import STREAM_TIMEOUT_SECONDS, client_options
from tunevane.rpc.status import from_rpc_error

# Requests and responses are whatever messages a method has, and grpc passes private keywords from generated
# code to its channels, so `Any` is the honest type in this module.


class _Call:
    """One call; everything but its errors is grpc's."""

    def __init__(self, call: Any, target: str) -> None:
        self._call = call
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._response().__await__()

    async def _response(self) -> Any:
        try:
            return await self._call
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._target) from error

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for response in self._call:
                yield response
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._target) from error

    async def read(self) -> Any:
        try:
            return await self._call.read()
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._target) from error

    async def write(self, request: Any) -> None:
        try:
            await self._call.write(request)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._target) from error

    async def done_writing(self) -> None:
        try:
            await self._call.done_writing()
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._target) from error


class _Channel(grpc.aio.Channel):
    def __init__(self, channel: grpc.aio.Channel, target: str, timeout_seconds: float) -> None:
        self._channel = channel
        self._target = target
        self._timeout_seconds = timeout_seconds

    def _method(self, inner: Callable[..., Any], timeout_seconds: float) -> Any:
        def call(*arguments: Any, timeout: float | None = None, **keywords: Any) -> _Call:
            chosen = timeout_seconds if timeout is None else timeout
            return _Call(inner(*arguments, timeout=chosen, **keywords), self._target)

        return call

    def unary_unary(self, *arguments: Any, **keywords: Any) -> Any:
        return self._method(self._channel.unary_unary(*arguments, **keywords), self._timeout_seconds)

    def unary_stream(self, *arguments: Any, **keywords: Any) -> Any:
        return self._method(self._channel.unary_stream(*arguments, **keywords), STREAM_TIMEOUT_SECONDS)

    def stream_unary(self, *arguments: Any, **keywords: Any) -> Any:
        return self._method(self._channel.stream_unary(*arguments, **keywords), STREAM_TIMEOUT_SECONDS)

    def stream_stream(self, *arguments: Any, **keywords: Any) -> Any:
        return self._method(self._channel.stream_stream(*arguments, **keywords), STREAM_TIMEOUT_SECONDS)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()


def connect_async(target: str, *, timeout_seconds: float = 60.0) -> grpc.aio.Channel:
    """Opens a channel for the running event loop; nothing is sent before the first call.

    Args:
        target: Address, for example `127.0.0.1:50051`.
        timeout_seconds: Deadline of unary calls that give none.

    """
    return _Channel(grpc.aio.insecure_channel(target, options=client_options(target)), target, timeout_seconds)
