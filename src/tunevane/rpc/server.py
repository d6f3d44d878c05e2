"""One way to run a gRPC server: health, reflection, limits, and a shutdown that fails no call."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tunevane import log
from tunevane.errors import ConfigurationError
from tunevane.rpc.interceptors import ServerInterceptor
from tunevane.rpc.options import server_options

_log = log.get("server")

NOTICE_SECONDS = 0.2
"""Between saying NOT_SERVING and refusing new calls, so that clients can move on."""


@dataclass(frozen=True)
class ServerOptions:
    """Where a server listens and how it ends."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: int = 0
    """Port to listen on; 0 lets the system choose."""

    drain_seconds: float = 5.0
    """How long calls under way may go on at shutdown."""

    max_concurrent_streams: int = 1000
    """Calls that one connection may have open."""


async def serve(
    service: str,
    options: ServerOptions,
    register: Callable[[grpc.aio.Server], Iterable[str]],
    *,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    on_started: Callable[[int], None] | None = None,
    stopping: asyncio.Event | None = None,
) -> None:
    """Serves until SIGTERM, SIGINT or `stopping`, then lets calls under way finish.

    Args:
        service: Name for the log.
        options: Where to listen.
        register: Adds servicers to the server and returns their full service names.
        interceptors: Around our own, which turns errors into status; the first is the outermost.
        on_started: Called with the port once calls are answered.
        stopping: Set it to end the server.

    Raises:
        ConfigurationError: The port is in use, or the address is none of this machine's.

    """
    stop = asyncio.Event() if stopping is None else stopping
    _check_free(service, options)
    interceptor = ServerInterceptor()
    server = grpc.aio.server(
        interceptors=[*interceptors, interceptor], options=server_options(options.max_concurrent_streams)
    )
    names = [*register(server)]
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    address = f"[{options.host}]" if ":" in options.host else options.host
    try:
        port = server.add_insecure_port(f"{address}:{options.port}")
    except RuntimeError as error:
        raise _unusable(service, options, "it is in use, or the address is not this machine's") from error
    await server.start()
    for name in ("", *names):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    _catch_signals(stop)
    _log.info("serving service=%s address=%s:%d", service, address, port)
    try:
        if on_started is not None:
            on_started(port)
        await stop.wait()
    finally:
        await health_servicer.enter_graceful_shutdown()
        await asyncio.sleep(NOTICE_SECONDS)
        # stop() refuses new calls at once; the grace it gets is longer, so that calls end by our own status.
        stopped = asyncio.create_task(server.stop(options.drain_seconds + 1))
        await interceptor.calls.drain(options.drain_seconds)
        await stopped
        _release_signals(stop)
        _log.info("stopped service=%s", service)


def _unusable(service: str, options: ServerOptions, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the {service} cannot listen on {options.host}, port {options.port}: {why}; choose another with the"
        " settings host and port"
    )


def _check_free(service: str, options: ServerOptions) -> None:
    """Asks the system first, because it says why; grpc does not, and writes to stderr besides."""
    if options.port == 0:
        return
    try:
        (family, kind, protocol, _, place), *_ = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
            probe.listen(1)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        why = f"port {options.port} is in use" if in_use else (error.strerror or str(error)).lower()
        raise _unusable(service, options, why) from error


_stops: WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Event]] = WeakKeyDictionary()
"""What a signal sets, by event loop: several servers may run in one."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _catch_signals(stop: asyncio.Event) -> None:
    """Lets SIGTERM and SIGINT end the server; in a thread other than the main one nothing is caught."""
    loop = asyncio.get_running_loop()
    events = _stops.setdefault(loop, set())
    events.add(stop)

    def stop_all() -> None:
        for event in events:
            event.set()

    for number in _SIGNALS:
        with suppress(RuntimeError, ValueError, NotImplementedError):
            loop.add_signal_handler(number, stop_all)


def _release_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    _stops[loop].discard(stop)
    if not _stops[loop]:
        for number in _SIGNALS:
            with suppress(RuntimeError, ValueError, NotImplementedError):
                loop.remove_signal_handler(number)
