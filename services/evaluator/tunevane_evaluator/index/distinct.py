"""Stores equal vectors once: a collapsed model makes ties as long as the index, and no engine should send those."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from tunevane_evaluator.index.order import Hits, pad, sort
from tunevane_evaluator.index.port import Floats, Ids, VectorIndex


class DistinctIndex:
    """An index in front of another one, which holds the first of several equal vectors.

    Vectors that are equal bit by bit score the same for every query, so their positions are put back after the search.
    """

    def __init__(self, inner: VectorIndex) -> None:
        """Args: the index that stores and searches."""
        self._inner = inner
        # 16 bytes of a digest for each vector; that two different ones share them is as likely as a broken disk.
        self._first: dict[bytes, int] = {}
        self._copies: dict[int, list[int]] = defaultdict(list)
        self._count = 0

    def create(self, dimensions: int) -> None:
        """Makes the collection."""
        self._inner.create(dimensions)

    def add(self, ids: npt.NDArray[np.int64], vectors: Floats) -> None:
        """Hands over vectors with their positions."""
        new = []
        # Adding 0 turns -0 into 0, which compares the same.
        for row, vector in enumerate(np.ascontiguousarray(vectors) + np.float32(0)):
            position = int(ids[row])
            first = self._first.setdefault(blake3(vector.tobytes()).digest(16), position)
            if first == position:
                new.append(row)
            else:
                self._copies[first].append(position)
        self._count += len(ids)
        if new:
            self._inner.add(ids[new], vectors[new])

    def seal(self, count: int) -> None:
        """Waits until everything is stored."""
        self._inner.seal(count - self._count + len(self._first))
        self._first.clear()

    def search(self, queries: Floats, limit: int) -> tuple[Ids, Floats]:
        """Finds the nearest vectors of each query."""
        ids, scores = self._inner.search(queries, limit)
        if not self._copies:
            return ids, scores
        return pad([self._expand(row[row >= 0], some[row >= 0], limit) for row, some in zip(ids, scores, strict=True)])

    def _expand(self, ids: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], limit: int) -> Hits:
        parts = [np.array([position, *self._copies.get(position, ())], np.int64) for position in ids.tolist()]
        expanded, repeated = sort((np.concatenate(parts), np.repeat(scores, [len(part) for part in parts])))
        keep = int(np.count_nonzero(repeated >= repeated[min(limit, len(repeated)) - 1]))
        return expanded[:keep], repeated[:keep]

    def drop(self) -> None:
        """Removes the collection."""
        self._inner.drop()
