"""One way to run a gRPC server: health, reflection, limits, and a shutdown that fails no call."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tunevane import log
from tunevane.errors import ConfigurationError
from tunevane.rpc.channel import MAX_MESSAGE_BYTES
from tunevane.rpc.interceptors import ServerInterceptor

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


_OPTIONS = (
    # Without this two servers share a port silently.
    ("grpc.so_reuseport", 0),
    # Nothing is ever inflated: compressed requests are refused.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.server_handshake_timeout_ms", 20_000),
)


async def serve(
    service: str,
    options: ServerOptions,
    register: Callable[[grpc.aio.Server], Iterable[str]],
    *,
    on_started: Callable[[int], None] | None = None,
    stopping: asyncio.Event | None = None,
) -> None:
    """Serves until SIGTERM, SIGINT or `stopping`, then lets calls under way finish.

    Args:
        service: Name for the log.
        options: Where to listen.
        register: Adds servicers to the server and returns their full service names.
        on_started: Called with the port once calls are answered.
        stopping: Set it to end the server.

    Raises:
        ConfigurationError: The port is in use, or the address is none of this machine's.

    """
    stop = asyncio.Event() if stopping is None else stopping
    server = grpc.aio.server(
        interceptors=[ServerInterceptor()],
        options=[*_OPTIONS, ("grpc.max_concurrent_streams", options.max_concurrent_streams)],
    )
    names = [*register(server)]
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    address = f"[{options.host}]" if ":" in options.host else options.host
    try:
        port = server.add_insecure_port(f"{address}:{options.port}")
    except RuntimeError as error:
        raise ConfigurationError(
            f"the {service} cannot listen on {address}:{options.port}; the port is in use or the address is not"
            " this machine's; choose another with --port and --host"
        ) from error
    await server.start()
    for name in ("", *names):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    signals = _catch_signals(stop)
    _log.info("serving service=%s address=%s:%d", service, address, port)
    try:
        if on_started is not None:
            on_started(port)
        await stop.wait()
    finally:
        await health_servicer.enter_graceful_shutdown()
        await asyncio.sleep(NOTICE_SECONDS)
        await server.stop(options.drain_seconds)
        loop = asyncio.get_running_loop()
        for number in signals:
            loop.remove_signal_handler(number)
        _log.info("stopped service=%s", service)


def _catch_signals(stop: asyncio.Event) -> list[signal.Signals]:
    """Lets SIGTERM and SIGINT end the server; in a thread other than the main one nothing is caught."""
    caught = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(RuntimeError, ValueError, NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
            caught.append(number)
    return caught
