"""Equal vectors are stored once: a collapsed model makes ties as long as the index, and no engine should send those."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_128_digest

from tunevane_evaluator.index.order import pad, sort
from tunevane_evaluator.index.port import Floats, Ids, Positions


class Distinct:
    """Tells which vectors are new, and puts the positions of the others back after a search.

    Vectors that are equal bit by bit score the same for every query.
    """

    def __init__(self) -> None:
        # 16 bytes of a digest for each vector; that two different ones share them is as likely as a broken disk.
        self._first: dict[bytes, int] = {}
        self._copies: dict[int, list[int]] = defaultdict(list)
        self._copied: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def new(self, ids: Positions, vectors: Floats) -> npt.NDArray[np.int64] | None:
        """Returns the rows whose vectors were not there before; None: all of them.

        Args:
            ids: Positions `[b]`, each given once.
            vectors: Vectors `[b, d]`.

        """
        # Adding 0 turns -0 into 0, which compares the same.
        digests = list(map(xxh3_128_digest, np.ascontiguousarray(vectors) + np.float32(0)))
        block = dict(zip(digests, ids.tolist(), strict=True))
        if len(block) == len(digests) and self._first.keys().isdisjoint(block):
            self._first.update(block)
            return None
        rows = []
        for row, (digest, position) in enumerate(zip(digests, ids.tolist(), strict=True)):
            first = self._first.setdefault(digest, position)
            if first == position:
                rows.append(row)
            else:
                self._copies[first].append(position)
        return np.array(rows, np.int64)

    def close(self, count: int) -> int:
        """Returns how many of so many vectors are stored, and forgets the digests: nothing is added any more."""
        self._first.clear()
        self._copied = np.array(sorted(self._copies), np.int64)
        return count - sum(map(len, self._copies.values()))

    def expand(self, ids: Ids, scores: Floats, limit: int) -> tuple[Ids, Floats]:
        """Puts the copies back into results, and cuts what is behind the limit and its tie."""
        if not len(self._copied):
            return ids, scores
        rows = np.flatnonzero(np.isin(ids, self._copied).any(axis=1))
        if not len(rows):
            return ids, scores
        longer = pad([self._row(ids[row], scores[row], limit) for row in rows])
        width = max(ids.shape[1], longer[0].shape[1])
        all_ids: Ids = np.full((len(ids), width), -1, np.int64)
        all_scores: Floats = np.full((len(ids), width), -np.inf, np.float32)
        all_ids[:, : ids.shape[1]], all_scores[:, : ids.shape[1]] = ids, scores
        all_ids[rows], all_scores[rows] = -1, -np.inf
        all_ids[rows, : longer[0].shape[1]], all_scores[rows, : longer[0].shape[1]] = longer
        return all_ids, all_scores

    def _row(
        self, ids: npt.NDArray[np.int64], scores: npt.NDArray[np.float32], limit: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        found = ids >= 0
        ids, scores = ids[found], scores[found]
        parts = [np.array([position, *self._copies.get(position, ())], np.int64) for position in ids.tolist()]
        repeated = np.repeat(scores, [len(part) for part in parts])
        (expanded,), (ordered,) = sort((np.concatenate(parts)[None], repeated[None]))
        keep = int(np.count_nonzero(ordered >= ordered[min(limit, len(ordered)) - 1]))
        return expanded[:keep], ordered[:keep]
