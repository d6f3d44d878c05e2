"""Client channels: deadlines, keepalive, retries of `UNAVAILABLE`, errors as classes."""

from __future__ import annotations

import json

import grpc

from tunevane.errors import UnavailableError
from tunevane.rpc.interceptors import ClientInterceptor

MAX_MESSAGE_BYTES = 4 << 20

# Every method of the contract can be sent twice, so a call that never reached a server is sent again.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

_OPTIONS = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A frozen peer is noticed by this; `keepalive_timeout_ms` has no effect in grpc's core.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


def connect(target: str, *, timeout_seconds: float = 60.0) -> grpc.Channel:
    """Opens a channel; nothing is sent before the first call.

    Args:
        target: Address, for example `127.0.0.1:50051`.
        timeout_seconds: Deadline of unary calls that give none.

    """
    channel = grpc.insecure_channel(target, options=_OPTIONS)
    return grpc.intercept_channel(channel, ClientInterceptor(target, timeout_seconds))


def wait_ready(channel: grpc.Channel, target: str, timeout_seconds: float) -> None:
    """Waits until the server answers.

    Raises:
        UnavailableError: It did not in time.

    """
    try:
        grpc.channel_ready_future(channel).result(timeout=timeout_seconds)
    except grpc.FutureTimeoutError:
        raise UnavailableError(
            f"nothing answers at {target} after {timeout_seconds:g} seconds; is the service running?"
        ) from None
