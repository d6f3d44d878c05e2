"""A service that fails in the way its request says, in all four kinds of method."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import wrappers_pb2

from tunevane import errors
from tunevane.errors import ConfigurationError, InvalidRequestError, Problem, TunevaneError

Text = wrappers_pb2.StringValue
SERVICE = "tunevane.test.Faults"
SECRET = "the password is swordfish"
CLASSES = list(errors.walk())


def make(cls: type[TunevaneError]) -> TunevaneError:
    """Makes an example of an error class."""
    details = {"error_id": "abc", "expected_sequence": "7"}
    if issubclass(cls, InvalidRequestError | ConfigurationError):
        return cls([Problem("a.b", "is wrong"), Problem("", "so is this")], details)
    return cls(f"ein Satz über {cls.__name__}", details)


class Faults:
    """Handlers; `entered` counts calls, `release` lets waiting ones go on."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.calls = 0
        self.unavailable = 0
        self.remaining: list[float] = []
        self.cancelled = threading.Event()

    async def act(self, request: Text, context: Any) -> Text:
        self.calls += 1
        self.remaining.append(context.time_remaining())
        self.entered.release()
        word = request.value
        if word == "unexpected":
            raise ValueError(SECRET)
        if word == "wait":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if word == "big":
            raise InvalidRequestError([Problem(f"f{i}", "ü" * 5000) for i in range(500)], {"d": "x" * 100_000})
        if self.unavailable > 0:
            self.unavailable -= 1
            raise errors.UnavailableError("busy; try again")
        for cls in CLASSES:
            if cls.__name__ == word:
                raise make(cls)
        return Text(value=word)

    async def unary(self, request: Text, context: Any) -> Text:
        return await self.act(request, context)

    async def stream(self, request: Text, context: Any) -> AsyncIterator[Text]:
        yield Text(value="first")
        yield await self.act(request, context)

    async def upload(self, requests: AsyncIterator[Text], context: Any) -> Text:
        return [await self.act(request, context) async for request in requests][-1]

    async def both(self, requests: AsyncIterator[Text], context: Any) -> AsyncIterator[Text]:
        async for request in requests:
            yield await self.act(request, context)

    def register(self, server: grpc.aio.Server) -> list[str]:
        handlers: dict[str, Any] = {}
        for name, kind in (
            ("unary", "unary_unary"),
            ("stream", "unary_stream"),
            ("upload", "stream_unary"),
            ("both", "stream_stream"),
        ):
            make_handler = getattr(grpc, f"{kind}_rpc_method_handler")
            handlers[name] = make_handler(getattr(self, name), Text.FromString, Text.SerializeToString)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        return [SERVICE]


def method(channel: Any, name: str) -> Any:
    """Returns the callable of one method on a channel of either kind; requests are messages or raw bytes."""
    kinds = {"unary": "unary_unary", "stream": "unary_stream", "upload": "stream_unary", "both": "stream_stream"}
    return getattr(channel, kinds[name])(
        f"/{SERVICE}/{name}",
        request_serializer=lambda given: given if isinstance(given, bytes) else given.SerializeToString(),
        response_deserializer=Text.FromString,
    )


def call(channel: grpc.Channel, name: str, word: str | bytes, timeout: float | None = None) -> list[str]:
    """Calls a method synchronously and returns all its answers; bytes are sent as they are."""
    message = word if isinstance(word, bytes) else Text(value=word)
    request: Any = iter([message]) if name in ("upload", "both") else message
    answer = method(channel, name)(request, timeout=timeout)
    return [answer.value] if isinstance(answer, Text) else [each.value for each in answer]
