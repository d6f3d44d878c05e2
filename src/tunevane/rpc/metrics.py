"""What Prometheus sees of any service: its calls, its process, and which version it is.

The families of calls have the names that gRPC's middleware gives them in other languages, so that ready-made
dashboards understand them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from importlib.metadata import version
from typing import Any

import grpc
import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, ProcessCollector

# Requests and responses are whatever messages a method has, so `Any` is the honest type in this module.

CALL_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)
"""Upper ends of the buckets; the last ones are for streams."""

CODES = {code.value[0]: code.name for code in grpc.StatusCode}
"""Names of status codes by number."""

KINDS = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}
"""Names of kinds of methods, by whether requests and responses are streams."""

MAKERS: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}

_LABELS = ("grpc_type", "grpc_service", "grpc_method")


def registry(service: str) -> CollectorRegistry:
    """Makes a registry that describes this process; `service` is `trainer`, `evaluator` or `tracker`."""
    # A series of its own for when each counter began would double their number, and nothing reads it.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # the package's own is untyped
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    GCCollector(registry=made)
    about = Gauge(
        "tunevane_build_info", "Which service this is, and its version.", ["service", "version"], registry=made
    )
    about.labels(service, version("tunevane")).set(1)
    return made


class CallMetrics(grpc.aio.ServerInterceptor):
    """Counts and times the calls of a server; has to be the first of its interceptors."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers the families."""
        self._methods: dict[str, _Method] = {}
        self.started = Counter("grpc_server_started", "Calls begun.", _LABELS, registry=registry)
        self.handled = Counter(
            "grpc_server_handled", "Calls ended, by status code.", (*_LABELS, "grpc_code"), registry=registry
        )
        self.seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time from a call's begin to its end.",
            _LABELS,
            registry=registry,
            buckets=CALL_SECONDS,
        )
        self.in_flight = Gauge("grpc_server_in_flight_requests", "Calls under way.", _LABELS, registry=registry)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wraps the handler of one call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            # Nobody chooses our labels: methods that do not exist share one.
            unknown = ("unary", "unknown", "unknown")
            self.started.labels(*unknown).inc()
            self.handled.labels(*unknown, "UNIMPLEMENTED").inc()
            return None
        return _counted(self.of(handler, handler_call_details.method), handler)

    def of(self, handler: grpc.RpcMethodHandler[Any, Any], method: str) -> _Method:
        """Returns the series of a method, which are looked up once."""
        if method not in self._methods:
            service, _, name = method.lstrip("/").rpartition("/")
            kind = KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
            self._methods[method] = _Method(self, (kind, service, name))
        return self._methods[method]


class _Method:
    """The series of one method."""

    def __init__(self, metrics: CallMetrics, labels: tuple[str, str, str]) -> None:
        self.started = metrics.started.labels(*labels)
        self.seconds = metrics.seconds.labels(*labels)
        self.in_flight = metrics.in_flight.labels(*labels)
        # Shown as zero before it happens: an increase that begins at one is none to Prometheus.
        self.handled = {code: metrics.handled.labels(*labels, code) for code in ("OK", "INTERNAL")}
        self._metrics, self._labels = metrics, labels

    def end(self, code: str) -> None:
        """Counts a call that ended."""
        if code not in self.handled:
            self.handled[code] = self._metrics.handled.labels(*self._labels, code)
        self.handled[code].inc()


def _counted(method: _Method, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    streaming = (bool(handler.request_streaming), bool(handler.response_streaming))

    async def answer(given: Any, context: Any) -> Any:
        with _Call(method, context):
            behaviour: Any = handler.stream_unary if handler.request_streaming else handler.unary_unary
            return await behaviour(given, context)

    async def stream(given: Any, context: Any) -> AsyncIterator[Any]:
        behaviour: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream
        # Closed at once when the caller leaves, so that work for nobody stops.
        with _Call(method, context):
            async with aclosing(behaviour(given, context)) as responses:
                async for response in responses:
                    yield response

    make = MAKERS[streaming]
    wrapper = stream if handler.response_streaming else answer
    made: grpc.RpcMethodHandler[Any, Any] = make(wrapper, handler.request_deserializer, handler.response_serializer)
    return made


class _Call:
    """One call, from its begin to whatever ends it."""

    def __init__(self, method: _Method, context: Any) -> None:
        self._method, self._context = method, context

    def __enter__(self) -> None:
        self._began = time.perf_counter()
        self._method.started.inc()
        self._method.in_flight.inc()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._method.in_flight.dec()
        self._method.seconds.observe(time.perf_counter() - self._began)
        self._method.end(self._code(error))

    def _code(self, error: BaseException | None) -> str:
        code = self._context.code()
        number = code.value[0] if isinstance(code, grpc.StatusCode) else int(code or 0)
        if number == 0 and error is not None:
            # The caller went away, or its time was over; nobody chose a status.
            left = self._context.time_remaining()
            return "DEADLINE_EXCEEDED" if left is not None and left <= 0 else "CANCELLED"
        return CODES.get(number, "UNKNOWN")
