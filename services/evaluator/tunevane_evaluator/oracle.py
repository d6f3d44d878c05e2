"""Brute force beside the database, for a sample of the queries: nothing lost, nothing stale, nothing approximate."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt

from tunevane.errors import UnavailableError
from tunevane_evaluator.index.port import Floats, Ids

SAMPLE = 64
TOLERANCE = 1e-5
"""Float32 sums of a few thousand products, in whatever order, are closer than this."""


class MismatchError(UnavailableError):
    """The database's answers are not what brute force finds; another attempt may be better."""


class Oracle:
    """Keeps the best of the sampled queries while the documents pass by; its memory does not grow."""

    def __init__(self, queries: Floats, limit: int, seed: int, *, euclidean: bool) -> None:
        """Draws the sample.

        Args:
            queries: All query vectors, `[q, d]`.
            limit: Results to compare per query.
            seed: Of the sample.
            euclidean: Whether scores are negated distances rather than dot products.

        """
        count = min(SAMPLE, len(queries))
        self._numbers = np.array(sorted(random.Random(seed).sample(range(len(queries)), count)))
        self._rough = np.ascontiguousarray(queries[self._numbers])
        # In float64, so that the squares of close vectors can be subtracted.
        self._queries = self._rough.astype(np.float64)
        self._lengths = np.linalg.norm(self._queries, axis=1)[:, None]
        self._limit = limit
        self._euclidean = euclidean
        self._ids: Ids = np.empty((count, 0), np.int64)
        self._scores: npt.NDArray[np.float64] = np.empty((count, 0), np.float64)

    def add(self, ids: npt.NDArray[np.int64], vectors: Floats) -> None:
        """Sees some documents, by position [b] and vector [b, d]."""
        if self._scores.shape[1] == self._limit:
            near = self._near(vectors)
            ids, vectors = ids[near], vectors[near]
        if not len(ids):
            return
        documents = vectors.astype(np.float64)
        scores = self._queries @ documents.T
        if self._euclidean:
            squares = self._lengths**2 + (documents**2).sum(1)[None] - 2 * scores
            scores = -np.sqrt(np.maximum(squares, 0))
        merged = np.concatenate([self._scores, scores], axis=1)
        merged_ids = np.concatenate([self._ids, np.broadcast_to(ids, scores.shape)], axis=1)
        if merged.shape[1] > self._limit:
            best = np.argpartition(-merged, self._limit - 1, axis=1)[:, : self._limit]
            merged, merged_ids = np.take_along_axis(merged, best, 1), np.take_along_axis(merged_ids, best, 1)
        self._scores, self._ids = merged, merged_ids

    def _near(self, vectors: Floats) -> npt.NDArray[np.bool_]:
        """Tells which documents may be among the best of some query, by float32, which costs an eighth."""
        scores = self._rough @ vectors.T
        bound = self._scores.min(axis=1, keepdims=True)
        squares = np.einsum("ij,ij->i", vectors, vectors)
        if self._euclidean:
            # -|q - x|^2 > -|q - y|^2 means q.x - |x|^2 / 2 > (|q|^2 - |q - y|^2) / 2.
            scores -= 0.5 * squares
            bound = 0.5 * (self._lengths**2 - bound**2)
        longest = float(np.sqrt(squares.max(initial=0.0)))
        if not np.isfinite(longest):
            return np.ones(len(vectors), np.bool_)
        slack = TOLERANCE * longest * (self._lengths + (longest if self._euclidean else 0.0))
        near: npt.NDArray[np.bool_] = (scores >= (bound - slack).astype(np.float32)).any(axis=0)
        return near

    def check(self, first: int, ids: Ids, scores: Floats) -> None:
        """Compares what the database found for a block of queries, best first; ties may stand in any order.

        Args:
            first: Number of the block's first query.
            ids: Positions `[b, k]`, padded with -1.
            scores: Scores `[b, k]`, padded with -inf.

        Raises:
            MismatchError: They differ, so the index is not what was stored.

        """
        sampled = np.flatnonzero((self._numbers >= first) & (self._numbers < first + len(ids)))
        wrong = [number for number in sampled.tolist() if not self._agrees(number, first, ids, scores)]
        if wrong:
            raise MismatchError(
                f"the vector database's answers differ from brute force for {len(wrong)} of {len(sampled)} sampled"
                " queries; it lost or mixed up vectors, or searches approximately"
            )

    def _agrees(self, sample: int, first: int, ids: Ids, scores: Floats) -> bool:
        row = self._numbers[sample] - first
        found, got = ids[row][ids[row] >= 0], scores[row][ids[row] >= 0]
        order = np.argsort(-self._scores[sample])
        expected, best = self._scores[sample][order], self._ids[sample][order]
        if len(got) < len(expected):
            return False
        near = TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0)))
        if not (np.abs(got[: len(expected)] - expected) <= near).all():
            return False
        # Whatever stands clearly above the last place has to be on both lists.
        bound = expected[-1] + 2 * near
        return set(best[expected > bound]) <= set(found) and set(found[got > bound]) <= set(best)
