"""Results of each query sorted by document, to see duplicates and to find judged documents among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunevane.core.metrics.ranking import Flags, Ints, adjacent


@dataclass(frozen=True)
class Sorted:
    """The results of q queries, each row of k columns sorted by document."""

    rows: npt.NDArray[np.signedinteger]
    """`document << bits | column` [q, k], ascending in a row; pads, -1, come first."""

    bits: int
    """Bits that the column takes."""

    lowest: int
    """Smallest document number, -1 with pads; 0 without results."""

    highest: int
    """Largest document number; -1 without results."""

    @classmethod
    def by_document(cls, ids: Ints) -> Sorted:
        """Sorts ids [q, k]."""
        lowest, highest = (int(ids.min()), int(ids.max())) if ids.size else (0, -1)
        # A document and its column in one number: sorting these is several times as fast as an argsort, and
        # faster still where the numbers are narrow.
        bits = ids.shape[1].bit_length()
        most = (1 << (31 - bits)) - 1
        narrow = -most <= lowest and highest < most
        packed: npt.NDArray[np.signedinteger] = ids.astype(np.int32 if narrow else np.int64)
        np.left_shift(packed, bits, out=packed)
        np.bitwise_or(packed, np.arange(ids.shape[1], dtype=packed.dtype), out=packed)
        packed.sort(axis=1)
        return cls(packed, bits, lowest, highest)

    def repeated(self) -> Flags:
        """Tells where a document stands that stands once more in its row [q, k]."""
        documents = self.rows >> self.bits
        twice = adjacent(documents, np.equal, False)
        return twice & (documents >= 0) if self.lowest < 0 and twice.any() else twice

    def places(self, queries: Ints, documents: Ints) -> tuple[Ints, Ints]:
        """Finds pairs of a query and a document by binary search, all pairs one step at a time.

        That takes no memory for the index, however large it is.

        Args:
            queries: The row of each pair [p].
            documents: The document of each pair [p].

        Returns:
            Places in the flattened ids that were sorted, ascending, and the number of the pair that stands at each.

        """
        columns = self.rows.shape[1]
        if self.rows.size == 0 or len(queries) == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        # Nothing beyond the highest is there; cut off, it fits the narrow type and still matches nothing.
        wanted = np.minimum(documents, self.highest + 1).astype(self.rows.dtype) << self.bits
        line, start = self.rows.ravel(), queries * columns
        at, width = start.copy(), columns
        while width > 1:
            half = width // 2
            at += half * (line.take(at + (half - 1)) < wanted)
            width -= half
        found = line.take(at)
        pairs = np.flatnonzero((found ^ wanted) >> self.bits == 0)
        places = start[pairs] + (found[pairs] & ((1 << self.bits) - 1))
        order = len(queries).bit_length()
        both = np.sort(places << order | pairs)
        return both >> order, both & ((1 << order) - 1)
