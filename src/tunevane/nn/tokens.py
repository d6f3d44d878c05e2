"""Token ids of a set of texts in two flat arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.uint16] | npt.NDArray[np.int32]


@dataclass(frozen=True)
class Tokens:
    """Token ids of `n` texts."""

    offsets: npt.NDArray[np.int64]
    """Where each text begins, and where the last one ends, `[n + 1]`."""

    ids: Ids
    """All ids, text after text, `[offsets[n]]`; 2 bytes each where the vocabulary is small enough."""

    def __len__(self) -> int:
        """Counts the texts."""
        return len(self.offsets) - 1

    def length(self, position: int) -> int:
        """Returns the number of tokens of one text."""
        return int(self.offsets[position + 1] - self.offsets[position])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Numbers of tokens, `[n]`."""
        return np.diff(self.offsets)

    def row(self, position: int) -> npt.NDArray[np.int64]:
        """Returns the ids of one text."""
        return self.ids[self.offsets[position] : self.offsets[position + 1]].astype(np.int64)

    def take(self, positions: Sequence[int]) -> npt.NDArray[np.int64]:
        """Returns the ids of some texts, one after the other."""
        rows = [self.ids[self.offsets[position] : self.offsets[position + 1]] for position in positions]
        return np.concatenate(rows).astype(np.int64) if rows else np.zeros(0, np.int64)


def pack(blocks: Iterable[Sequence[Sequence[int]]], vocabulary: int) -> Tokens:
    """Makes the two arrays of lists of ids.

    Args:
        blocks: Ids of each text, some texts at a time.
        vocabulary: Ids are smaller than this.

    """
    parts: list[Ids] = []
    lengths: list[npt.NDArray[np.int64]] = [np.zeros(1, np.int64)]
    for rows in blocks:
        lengths.append(np.array([len(row) for row in rows], np.int64))
        flat = np.fromiter((each for row in rows for each in row), np.int32, int(lengths[-1].sum()))
        parts.append(flat.astype(np.uint16) if vocabulary <= 1 << 16 else flat)
    ids: Ids = np.zeros(0, np.int32)
    if parts:
        ids = np.concatenate(parts)  # type: ignore[assignment]  # all parts have one type
    return Tokens(np.cumsum(np.concatenate(lengths)), ids)
