"""Brute force in memory: the oracle that the database's answers are held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunevane.errors import UnavailableError
from tunevane_evaluator.index.order import Hits, whole_ties
from tunevane_evaluator.index.port import Floats, Ids


class ExactIndex:
    """Keeps all vectors in memory and compares every pair."""

    def __init__(self, *, euclidean: bool = False) -> None:
        """Makes an empty index; scores are dot products, or negated Euclidean distances."""
        self._euclidean = euclidean
        self._blocks: list[tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Floats]] = []
        self._vectors: Floats = np.zeros((0, 0), np.float32)
        self._ids = np.zeros(0, np.int64)

    def create(self, dimensions: int) -> None:
        """Makes the collection."""
        self._vectors = np.zeros((0, dimensions), np.float32)

    def add(self, ids: np.ndarray[tuple[int], np.dtype[np.int64]], vectors: Floats) -> None:
        """Hands over vectors with their positions."""
        self._blocks.append((ids, vectors))

    def seal(self, count: int) -> None:
        """Puts the blocks together."""
        self._ids = np.concatenate([self._ids, *(ids for ids, _ in self._blocks)])
        self._vectors = np.concatenate([self._vectors, *(vectors for _, vectors in self._blocks)])
        self._blocks.clear()
        if len(self._ids) != count:
            raise UnavailableError(f"the index holds {len(self._ids)} vectors instead of {count}")

    def search(self, queries: Floats, limit: int) -> tuple[Ids, Floats]:
        """Finds the nearest vectors of each query."""
        # In float64, so that the squares of close vectors can be subtracted, and equal vectors score the same.
        asked, stored = queries.astype(np.float64), self._vectors.astype(np.float64)
        precise = asked @ stored.T
        if self._euclidean:
            squares = (asked**2).sum(1)[:, None] + (stored**2).sum(1)[None] - 2 * precise
            precise = -np.sqrt(np.maximum(squares, 0))
        scores = precise.astype(np.float32)

        def fetch(numbers: Sequence[int], ask: int) -> list[Hits]:
            best = np.argpartition(-scores[list(numbers)], ask - 1, axis=1)[:, :ask]
            return [(self._ids[row], scores[number][row]) for number, row in zip(numbers, best, strict=True)]

        return whole_ties(fetch, len(queries), limit, len(self._ids))

    def drop(self) -> None:
        """Forgets everything."""
        self._blocks.clear()
        self._vectors = np.zeros((0, self._vectors.shape[1]), np.float32)
        self._ids = np.zeros(0, np.int64)
