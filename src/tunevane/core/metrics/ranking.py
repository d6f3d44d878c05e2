"""What a search found: positions and scores as two arrays, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tunevane.errors import InvalidRequestError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

PAD = -1
"""Stands for "no result" at the end of a row."""


def adjacent(rows: npt.NDArray[np.generic], compare: np.ufunc, last: bool) -> Flags:
    """Compares each entry of [q, k] with the next of its row; the last column, which has no next, gets `last`.

    Goes over all rows as one line: that is several times as fast as many short ones.
    """
    line = np.ravel(rows)
    found = np.empty(rows.shape, np.bool_)
    compare(line[:-1], line[1:], out=found.reshape(-1)[:-1])
    found[:, -1:] = last
    return found


@dataclass(frozen=True)
class Ranking:
    """The results of q queries, k columns each, best first.

    A row is ordered by (-score, position); the query's own document is already removed. A row may be
    longer than the cut-off: whoever wants expected values over ties passes every document that shares the
    score at the cut-off, because their number and relevance enter the expectation. Of a group that is cut
    short only what is there counts: the value is then the expectation over the orders of those documents.

    Raises:
        InvalidRequestError: Shapes differ, a score of a result is not finite, a row is not ordered, or a pad
            stands before a result.

    """

    ids: Ints
    """Positions in the index set [q, k]; -1 pads the end of a row."""

    scores: npt.NDArray[np.floating]
    """Scores [q, k], larger is better; values beside pads do not matter."""

    def __post_init__(self) -> None:
        ids, scores = np.asarray(self.ids), np.asarray(self.scores)
        if ids.ndim != 2 or ids.shape != scores.shape:
            raise InvalidRequestError(
                f"a ranking needs ids and scores of one shape [queries, results], got {ids.shape} and {scores.shape}"
            )
        if ids.dtype.kind not in "iu" or scores.dtype.kind not in "fiu":
            raise InvalidRequestError(
                f"a ranking needs integer ids and numeric scores, got {ids.dtype} and {scores.dtype}"
            )
        if ids.shape[0] == 0:
            raise InvalidRequestError("a ranking needs at least one query, got none")
        object.__setattr__(self, "ids", ids.astype(np.int64, copy=False))
        object.__setattr__(self, "scores", scores)
        self._check_order()

    def _check_order(self) -> None:
        """Refuses scores that are not finite or rise within a row, and pads before results."""
        padded = bool((self.ids == PAD).any())
        # Comparisons with NaN are false, so an ordered row has none inside; an infinity can only be first or last.
        fine = adjacent(self.scores, np.greater_equal, True)
        if padded:
            found = self.ids != PAD
            if (found[:, 1:] & ~found[:, :-1]).any():
                raise InvalidRequestError("a ranking has a pad before a result; pads belong at the end of a row")
            fine[:, :-1] |= ~found[:, 1:]
            ends = np.where(found, self.scores, 0.0)
        else:
            ends = self.scores[:, :: max(self.scores.shape[1] - 1, 1)]
        if not np.isfinite(ends).all() or (not fine.all() and np.isnan(self.scores[~fine]).any()):
            raise InvalidRequestError("a ranking has a score that is NaN or infinite; scores must be finite")
        if not fine.all():
            row = int(np.argmin(fine.all(axis=1)))
            raise InvalidRequestError(
                f"the results of query {row} are not ordered by descending score; sort them before scoring"
            )

    @property
    def queries(self) -> int:
        """Number of queries, q."""
        return int(self.ids.shape[0])

    def rows(self, start: int, stop: int) -> Ranking:
        """Returns the queries `start` to `stop` (exclusive) as a ranking of their own."""
        return Ranking(self.ids[start:stop], self.scores[start:stop])
