"""Every call is counted once, under the status that its caller saw."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from prometheus_client import CollectorRegistry

from support import faults
from support.scrapes import read, value
from support.server import running
from support.waits import eventually
from tunevane.errors import CancelledError, DeadlineExceededError, NotFoundError, TunevaneError
from tunevane.rpc.channel import connect
from tunevane.rpc.metrics import CallMetrics
from tunevane.rpc.status import code_of

Served = tuple[faults.Faults, grpc.Channel, CollectorRegistry]
TYPES = {"unary": "unary", "stream": "server_stream", "upload": "client_stream", "both": "bidi_stream"}


@pytest.fixture
def served() -> Iterator[Served]:
    registry = CollectorRegistry()
    service = faults.Faults()
    with running(service.register, interceptors=[CallMetrics(registry)]) as target, connect(target) as channel:
        yield service, channel, registry


def handled(registry: CollectorRegistry, method: str, code: str) -> float:
    labels = {"grpc_service": faults.SERVICE, "grpc_method": method, "grpc_type": TYPES[method], "grpc_code": code}
    return value(read(registry), "grpc_server_handled_total", **labels)


@pytest.mark.parametrize("method", TYPES)
def test_calls_are_counted_by_status(served: Served, method: str) -> None:
    _, channel, registry = served
    for _ in range(3):
        faults.call(channel, method, "hello")
    with pytest.raises(NotFoundError):
        faults.call(channel, method, "NotFoundError")
    with pytest.raises(TunevaneError):
        faults.call(channel, method, "unexpected")
    # The answer may arrive a moment before the server's wrapper has ended.
    eventually(lambda: handled(registry, method, "INTERNAL") == 1)
    assert handled(registry, method, "OK") == 3
    assert handled(registry, method, code_of(NotFoundError("")).name) == 1
    samples = read(registry)
    assert value(samples, "grpc_server_started_total", grpc_method=method) == 5
    assert value(samples, "grpc_server_handling_seconds_count", grpc_method=method) == 5
    assert value(samples, "grpc_server_in_flight_requests", grpc_method=method) == 0


@pytest.mark.parametrize("method", TYPES)
def test_calls_under_way_are_seen_and_a_deadline_is_told_from_an_error(served: Served, method: str) -> None:
    service, channel, registry = served
    with pytest.raises(DeadlineExceededError):
        faults.call(channel, method, "wait", timeout=1.0)
    assert service.entered.acquire(timeout=5)
    eventually(lambda: handled(registry, method, "DEADLINE_EXCEEDED") + handled(registry, method, "CANCELLED") == 1)
    assert value(read(registry), "grpc_server_in_flight_requests") == 0


def test_a_caller_that_leaves_is_counted_as_cancelled(served: Served) -> None:
    service, channel, registry = served
    call = faults.method(channel, "stream")(faults.Text(value="wait"))
    assert next(call).value == "first"
    assert service.entered.acquire(timeout=5)
    assert value(read(registry), "grpc_server_in_flight_requests", grpc_method="stream") == 1
    call.cancel()
    with pytest.raises(CancelledError):
        next(call)
    eventually(lambda: handled(registry, "stream", "CANCELLED") == 1)
    assert value(read(registry), "grpc_server_in_flight_requests", grpc_method="stream") == 0


def test_methods_that_do_not_exist_make_no_labels(served: Served) -> None:
    _, channel, registry = served
    for number in range(20):
        with pytest.raises(TunevaneError):
            channel.unary_unary(f"/evil/{number}")(b"", timeout=5)  # type: ignore[arg-type]  # bytes need no serializer
    samples = read(registry)
    assert value(samples, "grpc_server_handled_total", grpc_method="unknown", grpc_code="UNIMPLEMENTED") == 20
    assert not any("evil" in text for labels in samples["grpc_server_handled_total"] for _, text in labels)
