"""A gRPC server in a thread of its own, with the servicers that a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import grpc

from support.background import in_background
from tunevane.rpc.server import ServerOptions, serve


@contextmanager
def running(
    register: Callable[[grpc.aio.Server], Iterable[str]],
    options: ServerOptions | None = None,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> Iterator[str]:
    """Serves until the block ends; yields the address."""

    async def main(ready: Callable[[int], None], stopping: asyncio.Event) -> None:
        chosen = options or ServerOptions()
        await serve("test", chosen, register, interceptors=interceptors, on_started=ready, stopping=stopping)

    with in_background(main) as port:
        yield f"127.0.0.1:{port}"
