"""What is relevant to a query: by equal labels, or by graded judgements (qrels)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunevane.core.metrics import labels
from tunevane.core.metrics.lookup import Sorted
from tunevane.core.metrics.ranking import PAD, Flags, Floats, Ints
from tunevane.errors import InvalidRequestError


@dataclass(frozen=True)
class Pairs:
    """The p relevant pairs of graded judgements, ordered by query and document."""

    queries: Ints
    """The query of each pair [p]."""

    documents: Ints
    """Its document, a position in the index [p]."""

    grades: Floats
    """Its grade, larger than 0 [p]."""

    ideal: Floats
    """The grades in the order of an ideal ranking: for each query from the largest down [p]."""

    ranks: Ints
    """The rank of each entry of `ideal`, from 0 for each query [p]."""

    def rows(self, start: int, stop: int) -> Pairs:
        """Returns the pairs of the queries `start` to `stop` (exclusive), counted from `start`."""
        first, last = np.searchsorted(self.queries, [start, stop])
        queries = self.queries[first:last] - start
        own = slice(first, last)
        return Pairs(queries, self.documents[own], self.grades[own], self.ideal[own], self.ranks[own])


@dataclass(frozen=True)
class Judgements:
    """Relevance of d index documents to q queries. Use `from_labels`, `from_qrels` or `from_triples`."""

    queries: int
    """Number of queries, q."""

    documents: int
    """Number of documents in the index, d."""

    relevant: Ints
    """R: relevant documents in the index for each query [q], the query's own document not counted."""

    self_positions: Ints
    """The query's own position in the index [q], or -1."""

    query_codes: npt.NDArray[np.int32] | None = None
    """Label numbers of the queries [q]; None with graded judgements."""

    index_codes: npt.NDArray[np.int32] | None = None
    """Label numbers of the documents and -1 for pads, `[d + 1]`; None with graded judgements."""

    pairs: Pairs | None = None
    """What graded judgements say; None where labels decide."""

    @classmethod
    def from_labels(
        cls, query_labels: Iterable[object], index_labels: Iterable[object], self_positions: Ints | None = None
    ) -> Judgements:
        """A document is relevant iff its label equals the query's; the label None equals nothing.

        Args:
            query_labels: Strings or numbers [q], compared after `labels.canonical`.
            index_labels: The same for the index [d].
            self_positions: The query's own position in the index [q] or -1; None when queries are not in it.

        Raises:
            InvalidRequestError: A set is empty, a label is of no usable type, or a position is not in the index.

        """
        query_codes, index_codes, distinct = labels.codes(query_labels, index_labels)
        own = _own_positions(self_positions, len(query_codes), len(index_codes))
        counts = np.bincount(index_codes[index_codes >= 0], minlength=distinct + 1)
        relevant = counts[query_codes]  # a query without a label has code -1: the last place, which counts nothing
        inside = np.flatnonzero(own != PAD)
        relevant[inside] -= index_codes[own[inside]] == query_codes[inside]
        narrow = np.append(index_codes, labels.NONE_IN_INDEX).astype(np.int32)
        return cls(len(query_codes), len(index_codes), relevant, own, query_codes.astype(np.int32), narrow)

    @classmethod
    def from_qrels(
        cls, qrels: Sequence[Mapping[int, float]], documents: int, self_positions: Ints | None = None
    ) -> Judgements:
        """Explicit judgements: per query, grade by index position; a grade above 0 is relevant, and the gain.

        Raises:
            InvalidRequestError: A set is empty, a grade is negative or no finite number, or a position is not in the
                index.

        """
        counts = np.fromiter(map(len, qrels), np.int64, len(qrels))
        total = int(counts.sum())
        try:
            positions = np.fromiter((p for judged in qrels for p in judged), np.int64, total)
            grades = np.fromiter((g for judged in qrels for g in judged.values()), np.float64, total)
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(
                f"judgements must map positions in the index to grades, both numbers: {error}"
            ) from error
        rows = np.repeat(np.arange(len(qrels)), counts)
        return cls.from_triples(rows, positions, grades, len(qrels), documents, self_positions)

    @classmethod
    def from_triples(
        cls,
        query_positions: npt.ArrayLike,
        index_positions: npt.ArrayLike,
        grades: npt.ArrayLike,
        queries: int,
        documents: int,
        self_positions: Ints | None = None,
    ) -> Judgements:
        """Explicit judgements as three arrays [p]: query, index position, grade.

        Raises:
            InvalidRequestError: As `from_qrels`, or a pair is judged twice.

        """
        own = _own_positions(self_positions, queries, documents)
        rows, positions = np.asarray(query_positions, np.int64), np.asarray(index_positions, np.int64)
        gains = np.asarray(grades, np.float64)
        _check_triples(rows, positions, gains, queries, documents)
        order = np.argsort(rows * documents + positions, kind="stable")
        rows, positions, gains = rows[order], positions[order], gains[order]
        if ((rows[1:] == rows[:-1]) & (positions[1:] == positions[:-1])).any():
            raise InvalidRequestError("a query judges the same document twice; judge each document once")
        counted = (gains > 0) & (positions != own[rows])
        rows, positions, gains = rows[counted], positions[counted], gains[counted]
        relevant = np.bincount(rows, minlength=queries)
        ranks = np.arange(len(rows)) - (np.cumsum(relevant) - relevant)[rows]
        pairs = Pairs(rows, positions, gains, gains[np.lexsort((-gains, rows))], ranks)
        return cls(queries, documents, relevant, own, pairs=pairs)

    def rows(self, start: int, stop: int) -> Judgements:
        """Returns the queries `start` to `stop` (exclusive) as judgements of their own."""
        codes = None if self.query_codes is None else self.query_codes[start:stop]
        pairs = None if self.pairs is None else self.pairs.rows(start, stop)
        own, relevant = self.self_positions[start:stop], self.relevant[start:stop]
        return Judgements(len(own), self.documents, relevant, own, codes, self.index_codes, pairs)

    def find(self, ids: Ints) -> tuple[Flags, Floats | None]:
        """Looks up results.

        Args:
            ids: Positions in the index [q, k], -1 for none; not checked.

        Returns:
            Whether each is relevant [q, k], and the grades of the relevant ones in row order (None: all 1).

        """
        places, grades = self.locate(ids, None)
        relevant = np.zeros(ids.shape, np.bool_)
        relevant.reshape(-1)[places] = True
        return relevant, grades

    def locate(self, ids: Ints, ordered: Sorted | None) -> tuple[Ints, Floats | None]:
        """Gives what `find` gives, with the places of the relevant results in the flattened ids, ascending [h].

        Args:
            ids: As in `find`.
            ordered: The same sorted by document; None: sorted here where that is needed.

        """
        if self.query_codes is not None and self.index_codes is not None:
            # Wrapping around takes a pad to the last code, and spares a check of every id.
            return np.flatnonzero(self.index_codes.take(ids, mode="wrap") == self.query_codes[:, None]), None
        assert self.pairs is not None
        ordered = Sorted.by_document(ids) if ordered is None else ordered
        places, found = ordered.places(self.pairs.queries, self.pairs.documents)
        return places, self.pairs.grades[found]


def _check_triples(rows: Ints, positions: Ints, grades: Floats, queries: int, documents: int) -> None:
    if rows.ndim != 1 or not rows.shape == positions.shape == grades.shape:
        raise InvalidRequestError(
            f"queries, positions and grades must be three lists of one length, got {rows.shape}, {positions.shape} "
            f"and {grades.shape}"
        )
    bad = ~np.isfinite(grades) | (grades < 0)
    if bad.any():
        raise InvalidRequestError(
            f"grades must be finite and at least 0, but {int(bad.sum())} are not, the first is {grades[bad][0]}"
        )
    unknown = (positions < 0) | (positions >= documents)
    if unknown.any():
        raise InvalidRequestError(
            f"a judgement names document {positions[unknown][0]}, but the index has {documents} documents"
        )
    if ((rows < 0) | (rows >= queries)).any():
        raise InvalidRequestError(f"a judgement names a query that is not among the {queries} queries")


def _own_positions(self_positions: Ints | None, queries: int, documents: int) -> Ints:
    """Checks the queries' own positions and the sizes of both sets."""
    if queries < 1 or documents < 1:
        raise InvalidRequestError(
            f"metrics need at least one query and one index document, got {queries} and {documents}"
        )
    if self_positions is None:
        return np.full(queries, PAD, np.int64)
    own = np.asarray(self_positions, np.int64)
    if own.shape != (queries,):
        raise InvalidRequestError(f"self_positions needs one entry for each of the {queries} queries, got {own.shape}")
    if ((own < PAD) | (own >= documents)).any():
        raise InvalidRequestError(f"self_positions names a document that is not among the {documents} in the index")
    return own
