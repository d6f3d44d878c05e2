"""Brute force in float64: what every index is held against."""

from __future__ import annotations

import numpy as np

from tunevane.core.search_settings import SearchSettings
from tunevane.errors import UnavailableError
from tunevane_evaluator.index.order import Hits, whole_ties
from tunevane_evaluator.index.port import EXACT, Floats, Ids, Positions


class ExactIndex:
    """Keeps all vectors in memory and compares every pair."""

    def __init__(self, *, euclidean: bool = False) -> None:
        """Makes an empty index; scores are dot products, or negated Euclidean distances."""
        self._euclidean = euclidean
        self._blocks: list[tuple[Positions, Floats]] = []
        self._vectors: Floats = np.zeros((0, 0), np.float32)
        self._ids = np.zeros(0, np.int64)

    def create(self, dimensions: int) -> None:
        """Makes the collection."""
        self._vectors = np.zeros((0, dimensions), np.float32)

    def add(self, ids: Positions, vectors: Floats) -> None:
        """Hands over vectors with their positions."""
        self._blocks.append((ids, vectors))

    def seal(self, count: int) -> None:
        """Puts the blocks together."""
        self._ids = np.concatenate([self._ids, *(ids for ids, _ in self._blocks)])
        self._vectors = np.concatenate([self._vectors, *(vectors for _, vectors in self._blocks)])
        self._blocks.clear()
        if len(self._ids) != count:
            raise UnavailableError(f"the index holds {len(self._ids)} vectors instead of {count}")

    def search(self, queries: Floats, limit: int, settings: SearchSettings = EXACT) -> tuple[Ids, Floats]:
        """Finds the nearest vectors of each query."""
        # In float64, so that the squares of close vectors can be subtracted, and equal vectors score the same.
        asked, stored = queries.astype(np.float64), self._vectors.astype(np.float64)
        precise = asked @ stored.T
        if self._euclidean:
            squares = (asked**2).sum(1)[:, None] + (stored**2).sum(1)[None] - 2 * precise
            precise = -np.sqrt(np.maximum(squares, 0))
        scores = precise.astype(np.float32)

        def fetch(numbers: Positions, ask: int) -> Hits:
            best = np.argpartition(-scores[numbers], ask - 1, axis=1)[:, :ask]
            return self._ids[best], np.take_along_axis(scores[numbers], best, axis=1)

        return whole_ties(fetch, len(queries), limit, len(self._ids))

    def drop(self) -> None:
        """Forgets everything."""
        self._blocks.clear()
        self._vectors = np.zeros((0, self._vectors.shape[1]), np.float32)
        self._ids = np.zeros(0, np.int64)
