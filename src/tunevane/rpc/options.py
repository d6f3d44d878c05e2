"""The channel arguments of both sides, and which calls are sent again."""

from __future__ import annotations

import json

from tunevane.api.blob.v1 import blob_service_pb2
from tunevane.api.data.v1 import dataset_service_pb2
from tunevane.api.evaluator.v1 import evaluator_service_pb2
from tunevane.api.tracker.v1 import tracker_service_pb2
from tunevane.api.trainer.v1 import runner_service_pb2, trainer_service_pb2

MAX_MESSAGE_BYTES = 4 << 20
MAX_METADATA_BYTES = 64 << 10
"""Room for an error's details; the default of 8 KiB would turn a long list of problems into another error."""

STREAM_TIMEOUT_SECONDS = 24 * 3600.0
"""Deadline of streaming calls that give none."""

_CONTRACT = (
    blob_service_pb2.DESCRIPTOR,
    dataset_service_pb2.DESCRIPTOR,
    evaluator_service_pb2.DESCRIPTOR,
    tracker_service_pb2.DESCRIPTOR,
    runner_service_pb2.DESCRIPTOR,
    trainer_service_pb2.DESCRIPTOR,
)

_LOCAL_TARGETS = ("127.", "localhost", "[::1]", "ipv4:127.", "ipv6:[::1]", "unix:")

Option = tuple[str, int | str]


def service_config() -> str:
    """Returns the retry rules as JSON: every unary method of the contract, and no streaming one.

    A unary method can be sent twice by contract. A stream cannot be replayed once it is under way; its
    caller knows better where to go on.
    """
    unary = [
        {"service": service.full_name, "method": method.name}
        for file in _CONTRACT
        for service in file.services_by_name.values()
        for method in service.methods
        if not method.client_streaming and not method.server_streaming
    ]
    policy = {
        "maxAttempts": 4,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps({"methodConfig": [{"name": unary, "retryPolicy": policy}]})


def client_options(target: str) -> list[Option]:
    """Returns the arguments of a channel to a target, for example `127.0.0.1:50051`."""
    options: list[Option] = [
        ("grpc.service_config", service_config()),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # A frozen peer is noticed by this; `keepalive_timeout_ms` has no effect in grpc's core.
        ("grpc.http2.ping_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    if target.startswith(_LOCAL_TARGETS):
        # An `http_proxy` in the environment is not meant for this machine's own services.
        options.append(("grpc.enable_http_proxy", 0))
    return options


def server_options(max_concurrent_streams: int) -> list[Option]:
    """Returns the arguments of a server; the limit is calls that one connection may have open."""
    return [
        # Without this two servers share a port silently.
        ("grpc.so_reuseport", 0),
        # Nothing is ever inflated: compressed requests are refused.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_concurrent_streams", max_concurrent_streams),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.http2.ping_timeout_ms", 10_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.server_handshake_timeout_ms", 20_000),
        # Without an age a new replica gets no call from clients that are connected already.
        ("grpc.max_connection_age_ms", 3_600_000),
    ]
