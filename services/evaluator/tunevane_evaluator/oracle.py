"""Brute force beside the database, for a sample of the queries: nothing lost, nothing stale, nothing approximate."""

from __future__ import annotations

import random

import numpy as np

from tunevane.errors import UnavailableError
from tunevane_evaluator.index.port import Floats

SAMPLE = 64
TOLERANCE = 1e-4


class Oracle:
    """Keeps the best scores of the sampled queries while the documents pass by; its memory does not grow."""

    def __init__(self, queries: Floats, limit: int, seed: int, *, euclidean: bool) -> None:
        """Draws the sample.

        Args:
            queries: All query vectors, `[q, d]`.
            limit: Results to compare per query.
            seed: Of the sample.
            euclidean: Whether scores are negated distances rather than dot products.

        """
        count = min(SAMPLE, len(queries))
        self._numbers = sorted(random.Random(seed).sample(range(len(queries)), count))
        self._queries = queries[self._numbers]
        self._limit = limit
        self._euclidean = euclidean
        self._best: Floats = np.empty((count, 0), np.float32)

    def add(self, vectors: Floats) -> None:
        """Sees some documents, `[b, d]`."""
        scores: Floats = self._queries @ vectors.T
        if self._euclidean:
            squares = (self._queries**2).sum(1)[:, None] + (vectors**2).sum(1)[None] - 2 * scores
            scores = -np.sqrt(np.maximum(squares, 0))
        merged = np.concatenate([self._best, scores], axis=1)
        if merged.shape[1] > self._limit:
            merged = -np.partition(-merged, self._limit - 1, axis=1)[:, : self._limit]
        self._best = merged

    def check(self, scores: Floats) -> None:
        """Compares the database's scores, `[q, k]`, best first.

        Raises:
            UnavailableError: They differ, so the index is not what was stored.

        """
        expected = -np.sort(-self._best, axis=1)
        width = min(expected.shape[1], scores.shape[1])
        got = scores[self._numbers, :width]
        scale = np.maximum(np.abs(expected[:, :width]), 1.0)
        wrong = ~(np.abs(got - expected[:, :width]) <= TOLERANCE * scale)
        # Euclidean distances near zero lose half of their digits in the squares.
        if self._euclidean:
            wrong &= np.minimum(np.abs(got), np.abs(expected[:, :width])) > 1e-2
        if wrong.any():
            raise UnavailableError(
                f"the vector database's answers differ from brute force for {int(wrong.any(axis=1).sum())} of"
                f" {len(self._numbers)} sampled queries; the evaluation is repeated"
            )
