"""Client channels: deadlines, keepalive, retries of `UNAVAILABLE`, errors as classes."""

from __future__ import annotations

import time

import grpc

from tunevane.errors import UnavailableError
from tunevane.rpc.async_channel import connect_async
from tunevane.rpc.client_interceptor import ClientInterceptor
from tunevane.rpc.options import MAX_MESSAGE_BYTES, client_options

_ASK_SECONDS = 1.0

__all__ = ["MAX_MESSAGE_BYTES", "connect", "connect_async", "wait_ready"]


def connect(target: str, *, timeout_seconds: float = 60.0) -> grpc.Channel:
    """Opens a channel that threads may share; nothing is sent before the first call.

    Args:
        target: Address, for example `127.0.0.1:50051`.
        timeout_seconds: Deadline of unary calls that give none.

    """
    channel = grpc.insecure_channel(target, options=client_options(target))
    return grpc.intercept_channel(channel, ClientInterceptor(target, timeout_seconds))


def wait_ready(channel: grpc.Channel, target: str, timeout_seconds: float) -> None:
    """Waits until the server answers.

    Raises:
        UnavailableError: It did not in time.

    """
    until = time.monotonic() + timeout_seconds
    while True:
        # Asked again and again: a channel whose server goes away while it is asked falls idle and stays so.
        ready = grpc.channel_ready_future(channel)
        try:
            ready.result(timeout=max(min(until - time.monotonic(), _ASK_SECONDS), 0.0))
        except grpc.FutureTimeoutError:
            if time.monotonic() >= until:
                raise UnavailableError(
                    f"nothing answers at {target} after {timeout_seconds:g} seconds; is the service running?"
                ) from None
        else:
            return
        finally:
            ready.cancel()
