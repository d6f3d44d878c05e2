"""Runs a service in a thread of its own, for tests whose client is synchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

SECONDS = 30.0
"""How long a service may take to start or to stop."""


@contextmanager
def in_background(
    serve: Callable[[Callable[[T], None], asyncio.Event], Coroutine[object, object, None]],
) -> Iterator[T]:
    """Runs a service until the block ends, and yields what it said once it had started.

    Args:
        serve: Gets a function to call once it answers, and an event that ends it.

    """
    started = threading.Event()
    said: list[T] = []
    failure: list[BaseException] = []
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(stopping.set))

        def ready(what: T) -> None:
            said.append(what)
            started.set()

        await serve(ready, stopping)

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failure.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=work, name="test-service")
    thread.start()
    try:
        assert started.wait(SECONDS), "the service did not start"
        if failure:
            raise failure[0]
        yield said[0]
    finally:
        if thread.is_alive():
            stop[0]()
        thread.join(SECONDS)
        assert not thread.is_alive(), "the service did not stop"
