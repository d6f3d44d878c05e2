"""What all indexes share: order by (-score, position), whole ties at the limit, padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tunevane_evaluator.index.port import Floats, Ids

Hits = tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.float32]]]
"""Positions and scores of one query, in any order."""


def sort(hits: Hits) -> Hits:
    """Orders hits by (-score, position)."""
    ids, scores = hits
    order = np.lexsort((ids, -scores))
    return ids[order], scores[order]


def whole_ties(
    fetch: Callable[[Sequence[int], int], list[Hits]], queries: int, limit: int, documents: int
) -> tuple[Ids, Floats]:
    """Fetches results, and more where scores tie at the limit.

    No engine says which of several equal scores it leaves out, so a query whose scores at `limit` and after it are
    equal is asked again for more, until the tie ends or everything is fetched.

    Args:
        fetch: Returns the best hits of some queries, by number, for a limit.
        queries: How many queries there are.
        limit: Results wanted per query.
        documents: How many documents there are.

    """
    wanted = min(limit, documents)
    found: dict[int, Hits] = {}
    open_queries = list(range(queries))
    ask = min(wanted + 1, documents)
    while open_queries:
        still_open = []
        for number, hits in zip(open_queries, fetch(open_queries, ask), strict=True):
            ids, scores = sort(hits)
            if ask < documents and len(scores) == ask and scores[wanted - 1] == scores[-1]:
                still_open.append(number)
                continue
            keep = int(np.count_nonzero(scores >= scores[wanted - 1])) if len(scores) >= wanted > 0 else len(scores)
            found[number] = (ids[:keep], scores[:keep])
        open_queries = still_open
        ask = min(ask * 4, documents)
    return pad([found[number] for number in range(queries)])


def pad(rows: list[Hits]) -> tuple[Ids, Floats]:
    """Makes rows of different lengths one array, padded with -1 and -inf."""
    width = max((len(ids) for ids, _ in rows), default=0)
    ids = np.full((len(rows), width), -1, np.int64)
    scores = np.full((len(rows), width), -np.inf, np.float32)
    for number, (row_ids, row_scores) in enumerate(rows):
        ids[number, : len(row_ids)] = row_ids
        scores[number, : len(row_scores)] = row_scores
    return ids, scores
