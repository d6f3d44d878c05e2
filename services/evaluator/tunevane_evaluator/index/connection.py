"""A connection to one Qdrant over its gRPC protocol: calls that can be stopped, errors in words, leftovers swept."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc
from qdrant_client import grpc as wire

from tunevane import log
from tunevane.errors import ConfigurationError, EvaluationFailedError, TunevaneError, UnavailableError

_log = log.get("qdrant")

PREFIX = "eval-"
LEFTOVER_SECONDS = 6 * 3600
TIMEOUT_SECONDS = 300.0
HELLO_SECONDS = 3.0
WAKE_SECONDS = 0.2
"""How often a call that waits asks whether it is still wanted."""

DROP_SECONDS = 10.0
HURRIED_DROP_SECONDS = 0.5
"""How long to wait for a collection to go, also when nobody wants the evaluation any more."""

OLDEST = (1, 10)
"""The first version that answers `QueryBatch`."""

_AWAY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    # A server that came back without its collections, or an engine that was started again.
    grpc.StatusCode.NOT_FOUND,
)
_BROKEN = ("RST_STREAM", "GOAWAY", "Stream removed", "Socket closed", "Connection reset")
"""What grpc says, under various codes, when a connection breaks inside a call."""

_STRICT = ("strict mode", "limit exceeded", "forbidden", "is not allowed", "help:")
"""What Qdrant says, in small letters, when its strict mode refuses something."""

_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")
_KEY = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


def _go_on() -> None:
    """Never stops anything."""


@dataclass(frozen=True)
class QdrantAddress:
    """Where a Qdrant answers."""

    host: str
    """Host name or address."""

    port: int
    """Port of its gRPC interface."""

    tls: bool = False
    """Whether the connection is encrypted."""

    api_key: str | None = None
    """Key that the server asks for."""

    roots: bytes | None = None
    """Certificates, PEM, by which the server is known; None: those of the system."""

    @property
    def target(self) -> str:
        """Returns `host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_url(url: str, api_key: str | None, roots: bytes | None = None) -> QdrantAddress:
    """Reads `http://host`, `https://host:6334` or `host:6334`; the port is that of gRPC, 6334 if left out.

    Without a scheme, an API key means that the connection is encrypted.

    Raises:
        ConfigurationError: It is no such URL.

    """
    bare = "//" not in url
    parts = urlsplit(f"//{url}" if bare else url)
    try:
        port = 6334 if parts.port is None else parts.port
    except ValueError as error:
        raise ConfigurationError(f"the Qdrant URL {url!r} has a bad port: {error}") from None
    if (not bare and parts.scheme not in ("http", "https", "grpc", "grpcs")) or not parts.hostname:
        raise ConfigurationError(f"{url!r} is no Qdrant URL; write for example http://localhost:6334")
    tls = parts.scheme in ("https", "grpcs") or (bare and api_key is not None)
    return QdrantAddress(parts.hostname, port, tls, api_key, roots)


class QdrantConnection:
    """A channel to one Qdrant."""

    def __init__(self, address: QdrantAddress, on_stuck: Callable[[], None] | None = None) -> None:
        """Opens the channel; nothing is sent yet.

        Args:
            address: Where to.
            on_stuck: Called when a collection does not go in time, to end an engine that is ours.

        """
        self.address = address
        self._on_stuck = on_stuck
        self._metadata = [("api-key", address.api_key)] if address.api_key else []
        # Not qdrant-client's own channel: its interceptor waits for each answer, so that nothing is ever in flight.
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_reconnect_backoff_ms", 2000),
        ]
        if address.host in _THIS_MACHINE:
            # An `http_proxy` in the environment is not meant for this machine.
            options.append(("grpc.enable_http_proxy", 0))
        if address.tls:
            credentials = grpc.ssl_channel_credentials(address.roots)
            self._channel = grpc.secure_channel(address.target, credentials, options)
        else:
            self._channel = grpc.insecure_channel(address.target, options)
        self.collections = wire.CollectionsStub(self._channel)
        self.points = wire.PointsStub(self._channel)
        self.health = wire.QdrantStub(self._channel)
        # The same methods as of `points`, for bytes.
        # Any: types-grpcio cannot tell what a method without serializers takes.
        self.upsert: Any = self._channel.unary_unary("/qdrant.Points/Upsert")
        self.query: Any = self._channel.unary_unary("/qdrant.Points/QueryBatch")
        self._leftovers: dict[str, Any] = {}  # the call that removes it, or None

    def close(self) -> None:
        """Closes the channel, when what was to be dropped is gone."""
        self.drop_leftovers(HURRIED_DROP_SECONDS)
        self._channel.close()

    def send(self, method: Any, request: Any, timeout: float = TIMEOUT_SECONDS) -> Any:
        """Starts a call of one of the methods above, and returns grpc's future, which `settle` takes."""
        return method.future(request, timeout=timeout, metadata=self._metadata)

    def settle(self, call: Any, doing: str, check: Callable[[], None] = _go_on, *, breaks_off: bool = True) -> Any:
        """Waits for an answer.

        Args:
            call: What `send` returned.
            doing: Words for the error.
            check: Asked again and again; raises to give up.
            breaks_off: Whether giving up cancels the call.

        Raises:
            UnavailableError: The server went away; another attempt may succeed.
            EvaluationFailedError: It refused.

        """
        while True:
            try:
                return call.result(timeout=WAKE_SECONDS)
            except grpc.FutureTimeoutError:
                try:
                    check()
                except BaseException:
                    if breaks_off:
                        call.cancel()
                    raise
            except grpc.FutureCancelledError:
                raise UnavailableError(f"Qdrant at {self.address.target} was left while {doing}") from None
            except grpc.RpcError as error:
                raise self.translate(error, doing) from None

    def ask(self, method: Any, request: Any, doing: str, check: Callable[[], None] = _go_on) -> Any:
        """Calls and waits; raises as `settle`."""
        return self.settle(self.send(method, request), doing, check)

    def translate(self, error: grpc.RpcError, doing: str) -> TunevaneError:
        """Returns our error for one of Qdrant's: away for the moment, or a refusal that repeating cannot help."""
        where = f"Qdrant at {self.address.target}"
        code, text = error.code(), (error.details() or "").splitlines()[:1]
        said = text[0][:300] if text else code.name
        if code in _AWAY or any(word in said for word in _BROKEN):
            return UnavailableError(f"{where} went away while {doing}: {said}")
        if any(word in said.lower() for word in _STRICT):
            return EvaluationFailedError(
                f"{where} limits what may be asked (strict mode), and refused while {doing}: {said};"
                " raise its limits, or ask for less"
            )
        if code in _KEY:
            return EvaluationFailedError(
                f"{where} refused the API key while {doing}: {said}; set TUNEVANE_EVALUATOR_QDRANT_API_KEY to a key"
                " that may make and drop collections"
            )
        return EvaluationFailedError(f"{where} refused while {doing}: {said}")

    def check(self) -> str:
        """Returns the server's version.

        Raises:
            UnavailableError: It does not answer.
            EvaluationFailedError: It is too old, or refuses the API key.

        """
        hello = self.health.HealthCheck.future(
            wire.HealthCheckRequest(), timeout=HELLO_SECONDS, wait_for_ready=True, metadata=self._metadata
        )
        version = str(self.settle(hello, "saying hello").version)
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if numbers is not None and (int(numbers[1]), int(numbers[2])) < OLDEST:
            raise EvaluationFailedError(
                f"Qdrant at {self.address.target} is version {version}, and tunevane needs {OLDEST[0]}.{OLDEST[1]} or"
                " newer; upgrade the server, or leave the setting qdrant_url out to use the embedded engine"
            )
        return version

    def drop(self, name: str, *, after: Any = None, hurried: bool = False) -> None:
        """Removes a collection, or, where the server is away, leaves that to `drop_leftovers`.

        Args:
            name: Which.
            after: The call that makes it, if that was not waited for.
            hurried: Whether the evaluation was given up: an engine of our own that is busy with it is ended.

        """
        if after is not None:
            with suppress(grpc.RpcError, grpc.FutureTimeoutError, grpc.FutureCancelledError):
                after.result(timeout=HURRIED_DROP_SECONDS if hurried else DROP_SECONDS)
        # What is not even made yet is dropped later.
        self._leftovers[name] = self._delete(name) if after is None or after.done() else None
        if hurried:
            self.drop_leftovers(HURRIED_DROP_SECONDS)

    def _delete(self, name: str) -> Any:
        return self.send(self.collections.Delete, wire.DeleteCollection(collection_name=name), timeout=30)

    def drop_leftovers(self, seconds: float = DROP_SECONDS) -> None:
        """Sees that the collections whose time has come are gone, and tries again where that failed."""
        for name, call in sorted(self._leftovers.items(), key=lambda each: each[0]):
            gone = call is not None and self._is_gone(call, seconds)
            if not gone and not self._is_gone(self._delete(name), seconds):
                return
            del self._leftovers[name]

    def _is_gone(self, call: Any, seconds: float) -> bool:
        try:
            call.result(timeout=seconds)
        except grpc.FutureTimeoutError:
            # An engine of our own that is busy with what nobody wants is ended; a server goes on without us.
            if self._on_stuck is not None:
                self._on_stuck()
            return False
        except grpc.RpcError as error:
            return bool(error.code() is grpc.StatusCode.NOT_FOUND)
        return True

    def sweep(self, now: float, older_than_seconds: float = LEFTOVER_SECONDS) -> list[str]:
        """Drops the collections that dead evaluations left behind, and returns their names."""
        listed = self.ask(self.collections.List, wire.ListCollectionsRequest(), "listing collections").collections
        dropped = []
        for each in listed:
            stamp = each.name.rpartition("-")[2]
            ours = each.name.startswith(PREFIX) and stamp.isdigit()
            if ours and now - int(stamp) > older_than_seconds:
                request = wire.DeleteCollection(collection_name=each.name)
                self.ask(self.collections.Delete, request, "sweeping leftovers")
                dropped.append(each.name)
        return dropped
