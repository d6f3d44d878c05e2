"""What is relevant to a query: by equal labels, or by graded judgements (qrels)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tunevane.core.metrics import labels
from tunevane.core.metrics.ranking import PAD, Flags, Floats, Ints
from tunevane.errors import InvalidRequestError


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

    keys: Ints | None = None
    """With graded judgements, `query * documents + position` of each relevant pair [p], ascending."""

    grades: Floats | None = None
    """Grades of these pairs [p], all positive."""

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
            InvalidRequestError: A set is empty, a grade is negative or not finite, or a position is not in the index.

        """
        counts = np.fromiter(map(len, qrels), np.int64, len(qrels))
        total = int(counts.sum())
        positions = np.fromiter((p for judged in qrels for p in judged), np.int64, total)
        grades = np.fromiter((g for judged in qrels for g in judged.values()), np.float64, total)
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
        keys = rows * documents + positions
        order = np.argsort(keys, kind="stable")
        keys, gains = keys[order], gains[order]
        if (keys[1:] == keys[:-1]).any():
            raise InvalidRequestError("a query judges the same document twice; judge each document once")
        counted = (gains > 0) & (keys % documents != own[keys // documents])
        keys, gains = keys[counted], gains[counted]
        relevant = np.bincount(keys // documents, minlength=queries)
        return cls(queries, documents, relevant, own, keys=keys, grades=gains)

    def rows(self, start: int, stop: int) -> Judgements:
        """Returns the queries `start` to `stop` (exclusive) as judgements of their own."""
        keys, grades = self.keys, self.grades
        if keys is not None and grades is not None:
            first, last = np.searchsorted(keys, [start * self.documents, stop * self.documents])
            keys, grades = keys[first:last] - start * self.documents, grades[first:last]
        codes = None if self.query_codes is None else self.query_codes[start:stop]
        own, relevant = self.self_positions[start:stop], self.relevant[start:stop]
        return Judgements(len(own), self.documents, relevant, own, codes, self.index_codes, keys, grades)

    def find(self, ids: Ints) -> tuple[Flags, Floats | None]:
        """Looks up results.

        Args:
            ids: Positions in the index [q, k], -1 for none; not checked.

        Returns:
            Whether each is relevant [q, k], and the grades of the relevant ones in row order (None: all 1).

        """
        places, grades = self.locate(ids)
        relevant = np.zeros(ids.shape, np.bool_)
        relevant.reshape(-1)[places] = True
        return relevant, grades

    def locate(self, ids: Ints) -> tuple[Ints, Floats | None]:
        """Gives what `find` gives, with the places of the relevant results in the flattened `ids`, ascending."""
        if self.query_codes is not None and self.index_codes is not None:
            # Wrapping around takes a pad to the last code, and spares a check of every id.
            return np.flatnonzero(self.index_codes.take(ids, mode="wrap") == self.query_codes[:, None]), None
        assert self.grades is not None
        places, pairs = _places(ids, *self._pairs)
        return places, self.grades[pairs]

    @cached_property
    def _pairs(self) -> tuple[Ints, Ints]:
        """Query and index position of each relevant pair [p], ascending."""
        assert self.keys is not None
        rows = self.keys // self.documents
        return rows, self.keys - rows * self.documents

    @cached_property
    def ideal(self) -> tuple[Ints, Ints, Floats]:
        """The ideal ranking of graded judgements: query, rank from 0, grade of every relevant pair [p]."""
        assert self.grades is not None
        rows, _ = self._pairs
        order = np.lexsort((-self.grades, rows))
        starts = np.cumsum(self.relevant) - self.relevant
        return rows, np.arange(len(rows)) - starts[rows], self.grades[order]


def _places(ids: Ints, rows: Ints, positions: Ints) -> tuple[Ints, Ints]:
    """Finds pairs of query and document among the results of the queries.

    The results of each query are sorted by document, and each pair is looked for in its row by binary search, all
    pairs one step at a time. That takes no memory for the index, however large it is.

    Args:
        ids: [q, k], -1 for none.
        rows: The query of each pair [p].
        positions: The document of each pair [p].

    Returns:
        Places in the flattened `ids`, ascending, and the pair that stands at each.

    """
    columns = ids.shape[1]
    if columns == 0 or len(rows) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    # A document and its column in one number: sorting these is several times as fast as an argsort.
    bits = columns.bit_length()
    line = np.sort(ids << bits | np.arange(columns), axis=1).ravel()
    wanted, start = positions << bits, rows * columns
    at, width = start.copy(), columns
    while width > 1:
        half = width // 2
        at += half * (line.take(at + (half - 1)) < wanted)
        width -= half
    found = line.take(at)
    pairs = np.flatnonzero(found >> bits == positions)
    places = start[pairs] + (found[pairs] & ((1 << bits) - 1))
    order = len(rows).bit_length()
    both = np.sort(places << order | pairs)
    return both >> order, both & ((1 << order) - 1)


def _check_triples(rows: Ints, positions: Ints, grades: Floats, queries: int, documents: int) -> None:
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
