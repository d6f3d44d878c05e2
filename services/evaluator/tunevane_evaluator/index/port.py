"""The port that vector indexes implement; one instance is one throw-away collection."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from tunevane.core.search_settings import SearchSettings

Floats = np.ndarray[tuple[int, int], np.dtype[np.float32]]
Ids = np.ndarray[tuple[int, int], np.dtype[np.int64]]
Positions = np.ndarray[tuple[int], np.dtype[np.int64]]

EXACT = SearchSettings()
"""Compare every pair."""


class VectorIndex(Protocol):
    """Stores vectors by position and finds the nearest.

    Shapes: `n` documents, `q` queries, `d` dimensions. Scores are larger for nearer vectors: dot products, or
    negated Euclidean distances.
    """

    def create(self, dimensions: int) -> None:
        """Makes the collection."""

    def add(self, ids: Positions, vectors: Floats) -> None:
        """Hands over vectors `[b, d]` with their positions `[b]`; returns before they are stored."""

    def seal(self, count: int) -> None:
        """Waits until everything is stored, and indexed where that was asked for.

        Raises:
            UnavailableError: The engine holds another number of vectors than `count`.

        """

    def search(self, queries: Floats, limit: int, settings: SearchSettings = EXACT) -> tuple[Ids, Floats]:
        """Finds the nearest vectors of each query `[q, d]`, with the settings' `ef` and quantization.

        Returns:
            Positions `[q, k]` and scores `[q, k]`, ordered by (-score, position), padded with -1 and -inf. `k` is at
            least `min(limit, n)`; it is larger where scores tie at the limit, so that ties are whole.

        """

    def drop(self) -> None:
        """Removes the collection; harmless when repeated or when the engine is gone."""
