"""All the searches of one evaluation: the exact one, and the plan's other ways to search the same embeddings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

from tunevane.core.search_settings import SearchSettings
from tunevane_evaluator.index.distinct import Distinct
from tunevane_evaluator.index.port import EXACT, Floats, Ids, Positions, VectorIndex
from tunevane_evaluator.spaces import Space, of_settings

OpenIndex = Callable[[bool, SearchSettings], VectorIndex]
"""Opens an index: whether distances are Euclidean, and how it is built."""


@dataclass
class _Collection:
    """One index, which several ways to search may share."""

    space: Space
    index: VectorIndex
    asked: Floats
    seconds: float = 0.0


@dataclass
class Way:
    """One way to search."""

    settings: SearchSettings
    """What was asked for; `EXACT` for the plan's own search."""

    space: Space
    """Where vectors are compared."""

    collection: _Collection
    """What is searched."""

    search_seconds: float = 0.0
    """Wall time of its searches."""

    @property
    def seconds(self) -> float:
        """Returns the wall time to store, index and search; what is shared counts for each."""
        return self.search_seconds + self.collection.seconds


class Searches:
    """Stores every document once for each index that the ways to search need."""

    def __init__(self, main: Space, others: Sequence[SearchSettings], open_index: OpenIndex, asked: Floats) -> None:
        """Makes the collections.

        Args:
            main: Where the plan's own search compares vectors.
            others: The other ways.
            open_index: Opens an index.
            asked: The query vectors as the model gives them, `[q, d]`.

        Raises:
            EvaluationFailedError: A way asks for more numbers than the vectors have.

        """
        self._distinct = Distinct()
        self._collections: dict[tuple[Space, SearchSettings], _Collection] = {}
        spaces = [main, *(of_settings(main, settings) for settings in others)]
        prepared = {space: space.prepare(asked) for space in spaces}
        self.ways = []
        for settings, space in zip((EXACT, *others), spaces, strict=True):
            place = space, _built(settings)
            if place not in self._collections:
                index = open_index(space.euclidean, place[1])
                self._collections[place] = _Collection(space, index, prepared[space])
            self.ways.append(Way(settings, space, self._collections[place]))

    @property
    def main(self) -> Way:
        """Returns the plan's own search."""
        return self.ways[0]

    @property
    def others(self) -> Sequence[Way]:
        """Returns the other ways, in the order of the plan."""
        return self.ways[1:]

    def create(self) -> None:
        """Makes the collections."""
        for each in self._collections.values():
            each.index.create(each.asked.shape[1])

    def add(self, ids: Positions, vectors: Floats) -> Floats:
        """Hands over documents as the model gives them, and returns them as the main search compares them."""
        rows = self._distinct.new(ids, vectors)
        if rows is not None:
            new_ids, new = ids[rows], vectors[rows]
        else:
            new_ids, new = ids, vectors
        prepared: dict[Space, Floats] = {}
        for each in self._collections.values():
            with _clock(each):
                if each.space not in prepared:
                    prepared[each.space] = each.space.prepare(new)
                if len(new_ids):
                    each.index.add(new_ids, prepared[each.space])
        return prepared[self.main.space] if rows is None else self.main.space.prepare(vectors)

    def seal(self, count: int, step: Callable[[str], AbstractContextManager[None]]) -> None:
        """Waits until everything is stored and indexed.

        Args:
            count: Documents that were added, copies included.
            step: Measures a step by name: `store`, or `build` where a graph or quantization is made.

        Raises:
            UnavailableError: Something was lost.

        """
        stored = self._distinct.close(count)
        for (_, built), each in self._collections.items():
            with _clock(each), step("store" if built.is_exact else "build"):
                each.index.seal(stored)

    def search(self, way: Way, first: int, size: int, limit: int) -> tuple[Ids, Floats]:
        """Finds the nearest documents of some queries, ties at the limit whole, copies included.

        Args:
            way: Which search.
            first: Number of the first query.
            size: How many queries.
            limit: Results wanted per query.

        """
        started = time.perf_counter()
        queries = way.collection.asked[first : first + size]
        found = self._distinct.expand(*way.collection.index.search(queries, limit, way.settings), limit)
        way.search_seconds += time.perf_counter() - started
        return found

    def drop(self) -> None:
        """Removes the collections."""
        for each in self._collections.values():
            each.index.drop()


def _built(settings: SearchSettings) -> SearchSettings:
    """Returns what of the settings decides how an index is built; the rest is said with each query."""
    return SearchSettings(
        hnsw=None if settings.hnsw is None else replace(settings.hnsw, ef=None),
        quantization=None
        if settings.quantization is None
        else replace(settings.quantization, oversampling=2.0, rescore=True),
    )


@contextmanager
def _clock(collection: _Collection) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        collection.seconds += time.perf_counter() - started
