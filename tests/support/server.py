"""A server in a thread of its own, for tests whose client is synchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import grpc

from tunevane.rpc.server import ServerOptions, serve


@contextmanager
def running(
    register: Callable[[grpc.aio.Server], Iterable[str]],
    options: ServerOptions | None = None,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> Iterator[str]:
    """Serves until the block ends; yields the address."""
    started = threading.Event()
    port = 0
    failure: list[BaseException] = []
    loop: asyncio.AbstractEventLoop | None = None
    stopping: asyncio.Event | None = None

    async def main() -> None:
        nonlocal loop, stopping
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()

        def on_started(number: int) -> None:
            nonlocal port
            port = number
            started.set()

        await serve(
            "test",
            options or ServerOptions(),
            register,
            interceptors=interceptors,
            on_started=on_started,
            stopping=stopping,
        )

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failure.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="test-server")
    thread.start()
    try:
        assert started.wait(20), "the server did not start"
        if failure:
            raise failure[0]
        yield f"127.0.0.1:{port}"
    finally:
        if loop is not None and stopping is not None and not loop.is_closed():
            loop.call_soon_threadsafe(stopping.set)
        thread.join(30)
        assert not thread.is_alive(), "the server did not stop"
