"""A collection in Qdrant: a server by URL, or our own child process."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from qdrant_client import grpc as wire

from tunevane.core.search_settings import SearchSettings
from tunevane.errors import TunevaneError, UnavailableError
from tunevane_evaluator.index import answers, collection
from tunevane_evaluator.index.connection import PREFIX, QdrantConnection
from tunevane_evaluator.index.frames import PointFrames, head
from tunevane_evaluator.index.order import Hits, whole_ties
from tunevane_evaluator.index.port import EXACT, Floats, Ids, Positions
from tunevane_evaluator.index.questions import QueryFrames

BYTES_PER_REQUEST = 1_600_000
REQUESTS_IN_FLIGHT = 4
QUERIES_PER_REQUEST = 512
QUERIES_IN_FLIGHT = 2
"""Requests of queries: one is answered while the next is on its way."""

FIRST_QUERIES = 32
SECONDS_PER_REQUEST = 0.4
"""What a request of queries may take, so that a search can be stopped."""

HITS_PER_REQUEST = 200_000
"""Results of all queries of one request together; whole ties can be long."""


def _go_on() -> None:
    """Never stops anything."""


class QdrantIndex:
    """One throw-away collection, without payload: exact, or built as settings say."""

    def __init__(
        self,
        connection: QdrantConnection,
        label: str,
        *,
        euclidean: bool = False,
        settings: SearchSettings = EXACT,
        check: Callable[[], None] = _go_on,
    ) -> None:
        """Names the collection.

        Args:
            connection: Where it lives.
            label: Goes into its name, for people.
            euclidean: Compare by Euclidean distance rather than by dot product.
            settings: Whose graph index and quantization are built.
            check: Asked while something is waited for; raises to give up.

        """
        clean = "".join(letter if letter.isalnum() else "-" for letter in label)[:60] or "x"
        # The time comes last, so that a sweep can tell how old a leftover is.
        self.name = f"{PREFIX}{clean}-{uuid.uuid4().hex}-{int(time.time())}"
        self._connection = connection
        self._euclidean = euclidean
        self._settings = settings
        self._check = check
        self._making: Any = None  # Any: grpc's futures have no common type
        self._in_flight: deque[Any] = deque()
        self._dimensions = 0
        self._count = 0
        self._points: PointFrames | None = None
        self._questions: dict[tuple[int, str], QueryFrames] = {}
        self._pace = FIRST_QUERIES

    def create(self, dimensions: int) -> None:
        """Makes the collection."""
        self._points, self._dimensions = PointFrames(dimensions), dimensions
        request = collection.creation(self.name, dimensions, self._settings, euclidean=self._euclidean)
        self._connection.drop_leftovers()
        # Not waited for: the first documents are encoded meanwhile.
        self._making = self._connection.send(self._connection.collections.Create, request)

    def _made(self) -> None:
        """Waits until the collection is there."""
        if self._making is not None:
            # Not broken off: it could be made after we dropped it.
            self._connection.settle(self._making, "making a collection", self._check, breaks_off=False)
            self._making = None

    def add(self, ids: Positions, vectors: Floats) -> None:
        """Hands over vectors with their positions."""
        assert self._points is not None
        self._made()
        before = head(self.name)
        size = max(BYTES_PER_REQUEST // (4 * self._dimensions), 1)
        for start in range(0, len(ids), size):
            rows = slice(start, start + size)
            request = self._points.write(ids[rows], vectors[rows], before)
            while len(self._in_flight) >= REQUESTS_IN_FLIGHT:
                self._settle()
            self._in_flight.append(self._connection.send(self._connection.upsert, request))

    def _settle(self) -> None:
        self._connection.settle(self._in_flight.popleft(), "storing vectors", self._check)

    def seal(self, count: int) -> None:
        """Waits until everything is stored, and indexed where settings ask for it."""
        self._made()
        while self._in_flight:
            self._settle()
        request = wire.CountPoints(collection_name=self.name, exact=True)
        held = self._connection.ask(self._connection.points.Count, request, "counting vectors", self._check)
        if held.result.count != count:
            raise UnavailableError(f"Qdrant holds {held.result.count} vectors instead of {count}")
        self._count = count
        if not self._settings.is_exact:
            collection.build(self._connection, self.name, self._dimensions, self._check)

    def search(self, queries: Floats, limit: int, settings: SearchSettings = EXACT) -> tuple[Ids, Floats]:
        """Finds the nearest vectors of each query."""

        def fetch(numbers: Positions, ask: int) -> Hits:
            return self._fetch(queries if len(numbers) == len(queries) else queries[numbers], ask, settings)

        return whole_ties(fetch, len(queries), limit, self._count)

    def _fetch(self, queries: Floats, limit: int, settings: SearchSettings) -> Hits:
        frames = self._questions.get((limit, settings.name))
        if frames is None:
            params = collection.search_params(settings)
            frames = QueryFrames(self.name, self._dimensions, limit, params)
            self._questions[limit, settings.name] = frames
        parts: list[Hits] = []
        under_way: deque[tuple[Any, int]] = deque()
        start, answered = 0, time.perf_counter()
        while start < len(queries) or under_way:
            while start < len(queries) and len(under_way) < QUERIES_IN_FLIGHT:
                size = max(min(self._pace, HITS_PER_REQUEST // limit), 1)
                block = queries[start : start + size]
                under_way.append((self._connection.send(self._connection.query, frames.write(block)), len(block)))
                start += len(block)
            call, size = under_way.popleft()
            try:
                parts.append(self._read(self._connection.settle(call, "searching", self._check), size))
            except BaseException:
                for other, _ in under_way:
                    other.cancel()
                raise
            now = time.perf_counter()
            wanted = int(size * SECONDS_PER_REQUEST / max(now - answered, 1e-6))
            self._pace = max(min(wanted, 4 * self._pace, QUERIES_PER_REQUEST), 1)
            answered = now
        return _stack(parts)

    def _read(self, data: bytes, queries: int) -> Hits:
        try:
            ids, scores = answers.read(data)
        except ValueError as error:
            raise UnavailableError(f"Qdrant at {self._connection.address.target} answered nonsense: {error}") from error
        if len(ids) != queries:
            raise UnavailableError(f"Qdrant answered {len(ids)} of {queries} queries")
        return ids, np.where(ids >= 0, -scores, scores) if self._euclidean else scores

    def drop(self) -> None:
        """Removes the collection; does not wait for it, unless somebody gave up in the middle."""
        for call in self._in_flight:
            call.cancel()
        self._in_flight.clear()
        self._connection.drop(self.name, after=self._making, hurried=self._unwanted())
        self._making = None

    def _unwanted(self) -> bool:
        try:
            self._check()
        except TunevaneError:
            return True
        return False


def _stack(parts: list[Hits]) -> Hits:
    """Puts blocks of rows below each other, in arrays as wide as the widest."""
    width = max((ids.shape[1] for ids, _ in parts), default=0)
    padded = [
        (
            np.pad(ids, ((0, 0), (0, width - ids.shape[1])), constant_values=-1),
            np.pad(scores, ((0, 0), (0, width - ids.shape[1])), constant_values=-np.inf),
        )
        if ids.shape[1] < width
        else (ids, scores)
        for ids, scores in parts
    ]
    return np.concatenate([ids for ids, _ in padded]), np.concatenate([scores for _, scores in padded])
