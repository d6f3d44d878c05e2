"""Example results: what a few queries find, the same queries for every checkpoint."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tunevane.core.dataset import Dataset, Item
from tunevane.core.metrics import Judgements
from tunevane_evaluator.index.port import Floats, Ids


def _shown(item: Item) -> dict[str, object]:
    """States what a person needs to recognise an item."""
    shown: dict[str, object] = {"id": item.id, "text": item.text}
    return shown if item.image is None else {**shown, "image": item.image}


class Examples:
    """Collects the results of chosen queries while blocks of results pass by."""

    def __init__(self, queries: Dataset, documents: Dataset, count: int, seed: int, limit: int) -> None:
        """Draws the queries.

        Args:
            queries: All queries.
            documents: The index.
            count: How many queries to show.
            seed: Of the choice.
            limit: Results to show per query.

        """
        self._queries = queries
        self._documents = documents
        self._limit = limit
        size = len(queries.items)
        self._chosen: Sequence[int] = sorted(random.Random(seed).sample(range(size), min(count, size)))
        self._shown: dict[int, Mapping[str, object]] = {}

    def add(self, first: int, ids: Ids, scores: Floats, judgements: Judgements) -> None:
        """Sees the results of a block of queries.

        Args:
            first: Number of the block's first query.
            ids: Positions `[b, k]`, padded with -1; the query's own document is not among them.
            scores: Scores `[b, k]`, larger for nearer documents.
            judgements: What is relevant to the queries of the block.

        """
        inside = [number for number in self._chosen if first <= number < first + len(ids)]
        if not inside:
            return
        relevant, _ = judgements.find(ids)
        for number in inside:
            row = number - first
            self._shown[number] = self._show(number, ids[row], scores[row], relevant[row])

    def _show(
        self,
        number: int,
        ids: npt.NDArray[np.int64],
        scores: npt.NDArray[np.float32],
        relevant: npt.NDArray[np.bool_],
    ) -> Mapping[str, object]:
        query = self._queries.items[number]
        results = [
            {
                **_shown(self._documents.items[position]),
                "score": round(float(score), 6),
                "relevant": bool(hit),
            }
            for position, score, hit in zip(ids, scores, relevant, strict=True)
            if position >= 0
        ]
        return {**_shown(query), "results": results[: self._limit]}

    def document(self) -> bytes:
        """Returns everything collected as JSON: `{"queries": [{"id", "text", "image", "results": [...]}]}`.

        `image` is the path of a file of the query or the index bundle, and is left out where there is none.
        """
        shown = [self._shown[number] for number in self._chosen]
        return json.dumps({"queries": shown}, ensure_ascii=False, separators=(",", ":")).encode()
