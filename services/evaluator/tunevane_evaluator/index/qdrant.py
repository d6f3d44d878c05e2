"""A collection in Qdrant, spoken to over its gRPC protocol: a server by URL, or our own child process."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np
from qdrant_client import grpc as wire
from qdrant_client.connection import get_channel

from tunevane.errors import ConfigurationError, EvaluationFailedError, TunevaneError, UnavailableError
from tunevane_evaluator.index.frames import PointFrames, head
from tunevane_evaluator.index.order import Hits, whole_ties
from tunevane_evaluator.index.port import Floats, Ids

PREFIX = "eval-"
LEFTOVER_SECONDS = 6 * 3600
POINTS_PER_REQUEST = 1024
REQUESTS_IN_FLIGHT = 4
QUERIES_PER_REQUEST = 256
TIMEOUT_SECONDS = 300.0
HELLO_SECONDS = 3.0
HITS_PER_REQUEST = 200_000
"""Results of all queries of one request together; whole ties can be long."""

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
    """Key that the server asks for; it implies TLS unless the host is this machine."""


def parse_url(url: str, api_key: str | None) -> QdrantAddress:
    """Reads `http://host`, `https://host:6334` or `host:6334`; the port is that of gRPC, 6334 if left out.

    Raises:
        ConfigurationError: It is no such URL.

    """
    parts = urlsplit(url if "//" in url else f"http://{url}")
    try:
        port = 6334 if parts.port is None else parts.port
    except ValueError as error:
        raise ConfigurationError(f"the Qdrant URL {url!r} has a bad port: {error}") from None
    if parts.scheme not in ("http", "https", "grpc", "grpcs") or not parts.hostname:
        raise ConfigurationError(f"{url!r} is no Qdrant URL; write for example http://localhost:6334")
    return QdrantAddress(parts.hostname, port, parts.scheme in ("https", "grpcs"), api_key)


class QdrantConnection:
    """A channel to one Qdrant."""

    def __init__(self, address: QdrantAddress) -> None:
        self.address = address
        metadata = [("api-key", address.api_key)] if address.api_key else []
        options = {
            "grpc.max_receive_message_length": -1,
            "grpc.max_send_message_length": -1,
            "grpc.max_reconnect_backoff_ms": 2000,
        }
        self._channel = get_channel(address.host, address.port, ssl=address.tls, metadata=metadata, options=options)
        self.collections = wire.CollectionsStub(self._channel)
        self.points = wire.PointsStub(self._channel)
        self.health = wire.QdrantStub(self._channel)
        # The same method as `points.Upsert`, for a request that is bytes already.
        # Any: types-grpcio cannot tell what a method without a serializer takes.
        self.upsert: Any = self._channel.unary_unary(
            "/qdrant.Points/Upsert", response_deserializer=wire.PointsOperationResponse.FromString
        )
        self._leftovers: set[str] = set()

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def translate(self, error: grpc.RpcError, doing: str) -> TunevaneError:
        """Returns our error for one of Qdrant's: away for the moment, or a refusal that repeating cannot help."""
        where = f"Qdrant at {self.address.host}:{self.address.port}"
        code, text = error.code(), (error.details() or "").splitlines()[:1]
        said = text[0][:300] if text else code.name
        if code in _AWAY or any(word in said for word in _BROKEN):
            return UnavailableError(f"{where} went away while {doing}: {said}")
        return EvaluationFailedError(f"{where} refused while {doing}: {said}")

    def check(self) -> str:
        """Returns the server's version.

        Raises:
            UnavailableError: It does not answer.

        """
        try:
            hello = self.health.HealthCheck(wire.HealthCheckRequest(), timeout=HELLO_SECONDS, wait_for_ready=True)
            return str(hello.version)
        except grpc.RpcError as error:
            raise self.translate(error, "saying hello") from None

    def drop(self, name: str) -> None:
        """Removes a collection, now or, where the server is away, before the next one is made."""
        self._leftovers.add(name)
        self.drop_leftovers()

    def drop_leftovers(self) -> None:
        """Removes the collections that could not be removed when their time had come."""
        for name in sorted(self._leftovers):
            try:
                self.collections.Delete(wire.DeleteCollection(collection_name=name), timeout=30)
            except grpc.RpcError:
                return
            self._leftovers.discard(name)

    def sweep(self, now: float, older_than_seconds: float = LEFTOVER_SECONDS) -> list[str]:
        """Drops the collections that dead evaluations left behind, and returns their names."""
        try:
            listed = self.collections.List(wire.ListCollectionsRequest(), timeout=30).collections
            dropped = []
            for each in listed:
                stamp = each.name.rpartition("-")[2]
                ours = each.name.startswith(PREFIX) and stamp.isdigit()
                if ours and now - int(stamp) > older_than_seconds:
                    self.collections.Delete(wire.DeleteCollection(collection_name=each.name), timeout=30)
                    dropped.append(each.name)
        except grpc.RpcError as error:
            raise self.translate(error, "sweeping leftovers") from None
        return dropped


class QdrantIndex:
    """One throw-away collection: exact search, no payload, no indexing."""

    def __init__(self, connection: QdrantConnection, label: str, *, euclidean: bool = False) -> None:
        """Names the collection.

        Args:
            connection: Where it lives.
            label: Goes into its name, for people.
            euclidean: Compare by Euclidean distance rather than by dot product.

        """
        clean = "".join(letter if letter.isalnum() else "-" for letter in label)[:60] or "x"
        # The time comes last, so that a sweep can tell how old a leftover is.
        self.name = f"{PREFIX}{clean}-{uuid.uuid4().hex}-{int(time.time())}"
        self._connection = connection
        self._euclidean = euclidean
        self._in_flight: deque[Any] = deque()  # Any: grpc's futures have no common type
        self._count = 0
        self._frames: PointFrames | None = None

    def create(self, dimensions: int) -> None:
        """Makes the collection."""
        self._frames = PointFrames(dimensions)
        params = wire.VectorParams(
            size=dimensions,
            distance=wire.Distance.Euclid if self._euclidean else wire.Distance.Dot,
            hnsw_config=wire.HnswConfigDiff(m=0),
        )
        request = wire.CreateCollection(
            collection_name=self.name,
            vectors_config=wire.VectorsConfig(params=params),
            optimizers_config=wire.OptimizersConfigDiff(indexing_threshold=0),
            replication_factor=1,
        )
        self._connection.drop_leftovers()
        try:
            self._connection.collections.Create(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise self._connection.translate(error, "making a collection") from None

    def add(self, ids: np.ndarray[tuple[int], np.dtype[np.int64]], vectors: Floats) -> None:
        """Hands over vectors with their positions."""
        assert self._frames is not None
        for start in range(0, len(ids), POINTS_PER_REQUEST):
            rows = slice(start, start + POINTS_PER_REQUEST)
            request = head(self.name) + self._frames.write(ids[rows], vectors[rows])
            while len(self._in_flight) >= REQUESTS_IN_FLIGHT:
                self._settle()
            self._in_flight.append(self._connection.upsert.future(request, timeout=TIMEOUT_SECONDS))

    def _settle(self) -> None:
        try:
            self._in_flight.popleft().result()
        except grpc.RpcError as error:
            raise self._connection.translate(error, "storing vectors") from None

    def seal(self, count: int) -> None:
        """Waits until everything is stored."""
        while self._in_flight:
            self._settle()
        try:
            request = wire.CountPoints(collection_name=self.name, exact=True)
            held = self._connection.points.Count(request, timeout=TIMEOUT_SECONDS).result.count
        except grpc.RpcError as error:
            raise self._connection.translate(error, "counting vectors") from None
        if held != count:
            raise UnavailableError(f"Qdrant holds {held} vectors instead of {count}")
        self._count = count

    def search(self, queries: Floats, limit: int) -> tuple[Ids, Floats]:
        """Finds the nearest vectors of each query."""

        def fetch(numbers: Sequence[int], ask: int) -> list[Hits]:
            found: list[Hits] = []
            size = max(min(QUERIES_PER_REQUEST, HITS_PER_REQUEST // ask), 1)
            for start in range(0, len(numbers), size):
                found.extend(self._query(queries[list(numbers[start : start + size])], ask))
            return found

        return whole_ties(fetch, len(queries), limit, self._count)

    def _query(self, queries: Floats, limit: int) -> list[Hits]:
        asked = [
            wire.QueryPoints(
                collection_name=self.name,
                query=wire.Query(nearest=wire.VectorInput(dense=wire.DenseVector(data=query))),
                params=wire.SearchParams(exact=True),
                limit=limit,
                with_payload=wire.WithPayloadSelector(enable=False),
                with_vectors=wire.WithVectorsSelector(enable=False),
            )
            for query in queries
        ]
        request = wire.QueryBatchPoints(collection_name=self.name, query_points=asked)
        try:
            answer = self._connection.points.QueryBatch(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise self._connection.translate(error, "searching") from None
        sign = -1.0 if self._euclidean else 1.0
        return [
            (
                np.fromiter((hit.id.num for hit in batch.result), np.int64, len(batch.result)),
                sign * np.fromiter((hit.score for hit in batch.result), np.float32, len(batch.result)),
            )
            for batch in answer.result
        ]

    def drop(self) -> None:
        """Removes the collection."""
        for call in self._in_flight:
            call.cancel()
        self._in_flight.clear()
        self._connection.drop(self.name)
