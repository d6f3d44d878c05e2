"""What a search returned, and what is relevant: arrays only."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """Results of one search: `q` queries, `w` results each.

    Rows are ordered best first, the query's own document is already gone, and equal scores at a cut-off are whole:
    a row goes on until the last document of the tie that the cut-off falls into. Where a row was cut within a tie, the
    expectation is taken over the part that is there.
    """

    ids: NDArray[np.int64]
    """Positions in the index set, `[q, w]`; -1 fills short rows."""

    scores: NDArray[np.floating]
    """Scores, `[q, w]`, larger is nearer."""


@dataclass(frozen=True)
class Judgements:
    """What is relevant to each query: by label, or by explicit grades."""

    relevant: NDArray[np.int64]
    """`R`: relevant documents of the index per query, `[q]`, the query's own document left out."""

    query_codes: NDArray[np.int64] | None = None
    """Label of each query as a number, `[q]`; None where grades decide."""

    index_codes: NDArray[np.int64] | None = None
    """Label of each document as a number, `[n]`; None where grades decide."""

    grades: tuple[Mapping[int, float], ...] = ()
    """Grade by position in the index, for each query; empty where labels decide."""

    own: NDArray[np.int64] | None = None
    """Position of each query's own document in the index, `[q]`, -1 where it has none; None when kept."""

    @staticmethod
    def from_labels(
        query_labels: Sequence[str | None],
        index_labels: Sequence[str | None],
        self_positions: NDArray[np.int64] | None = None,
    ) -> Judgements:
        """A document is relevant iff its label equals the query's; None equals nothing.

        Args:
            query_labels: Canonical labels, `[q]`.
            index_labels: Canonical labels, `[n]`.
            self_positions: Each query's own document, `[q]`, -1 where it has none; it does not count.

        """
        codes: dict[Hashable, int] = {}
        index_codes = np.array(
            [-2 if label is None else codes.setdefault(label, len(codes)) for label in index_labels], np.int64
        )
        query_codes = np.array([-1 if label is None else codes.get(label, -1) for label in query_labels], np.int64)
        counts = np.bincount(index_codes[index_codes >= 0], minlength=max(len(codes), 1))
        relevant = np.where(query_codes >= 0, counts[np.maximum(query_codes, 0)], 0)
        if self_positions is not None and len(index_codes):
            same = (self_positions >= 0) & (index_codes[np.maximum(self_positions, 0)] == query_codes)
            relevant = relevant - same
        return Judgements(relevant.astype(np.int64), query_codes, index_codes, own=self_positions)

    @staticmethod
    def from_qrels(
        grades: Sequence[Mapping[int, float]], self_positions: NDArray[np.int64] | None = None
    ) -> Judgements:
        """A document is relevant iff its grade is larger than 0; the grade is its gain.

        Args:
            grades: Grade by position in the index, for each query.
            self_positions: Each query's own document, `[q]`, -1 where it has none; it does not count.

        """
        cleaned = tuple(
            {
                position: float(grade)
                for position, grade in given.items()
                if grade > 0 and (self_positions is None or position != self_positions[number])
            }
            for number, given in enumerate(grades)
        )
        relevant = np.array([len(given) for given in cleaned], np.int64)
        return Judgements(relevant, grades=cleaned, own=self_positions)

    def gains(self, ids: NDArray[np.int64]) -> Matrix:
        """Returns the gain of each result, `[q, w]`; padding and documents without judgement gain 0."""
        if self.query_codes is not None and self.index_codes is not None:
            found = self.index_codes[np.maximum(ids, 0)] == self.query_codes[:, None]
            return (found & (ids >= 0)).astype(np.float64)
        gains = np.zeros(ids.shape)
        for number, given in enumerate(self.grades):
            if given:
                gains[number] = [given.get(int(position), 0.0) for position in ids[number]]
        return gains

    def ideal(self, depth: int) -> Matrix:
        """Returns the gains of the best possible ranking of all judged documents, `[q, depth]`."""
        if self.query_codes is not None:
            return (np.arange(depth)[None] < self.relevant[:, None]).astype(np.float64)
        ideal = np.zeros((len(self.grades), depth))
        for number, given in enumerate(self.grades):
            best = sorted(given.values(), reverse=True)[:depth]
            ideal[number, : len(best)] = best
        return ideal
