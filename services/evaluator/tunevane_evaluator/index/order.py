"""What all indexes share: order by (-score, position), whole ties at the limit, padding with -1 and -inf."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tunevane_evaluator.index.port import Floats, Ids

Hits = tuple[Ids, Floats]
"""Positions `[q, k]` and scores `[q, k]`, padded with -1 and -inf."""

Fetch = Callable[[npt.NDArray[np.int64], int], Hits]
"""Returns the best hits of some queries, by number, for a limit; each row in any order, padding last."""


def sort(hits: Hits) -> Hits:
    """Orders each row by (-score, position); padding stays last."""
    ids, scores = hits
    left, right = scores[:, :-1], scores[:, 1:]
    # Engines answer in order of the score, so that few rows have to be sorted.
    wrong = (right > left) | ((right == left) & (ids[:, 1:] < ids[:, :-1]))
    rows = np.flatnonzero(wrong.any(axis=1))
    if not len(rows):
        return hits
    ids, scores = ids.copy(), scores.copy()
    order = np.lexsort((ids[rows], -scores[rows]), axis=1)
    ids[rows] = np.take_along_axis(ids[rows], order, axis=1)
    scores[rows] = np.take_along_axis(scores[rows], order, axis=1)
    return ids, scores


def whole_ties(fetch: Fetch, queries: int, limit: int, documents: int) -> Hits:
    """Fetches results, and more where scores tie at the limit.

    No engine says which of several equal scores it leaves out, so a query whose scores at `limit` and after it are
    equal is asked again for more, until the tie ends or everything is fetched.

    Args:
        fetch: Asks the engine.
        queries: How many queries there are.
        limit: Results wanted per query.
        documents: How many documents there are.

    """
    wanted = min(limit, documents)
    open_queries = np.arange(queries if documents else 0)
    ask = min(wanted + 1, documents)
    done: list[tuple[npt.NDArray[np.int64], Hits]] = []
    while len(open_queries):
        ids, scores = sort(fetch(open_queries, ask))
        is_open = np.zeros(len(open_queries), np.bool_)
        if ids.shape[1] >= wanted > 0:
            bound = scores[:, wanted - 1]
            if ask < documents and ids.shape[1] >= ask:
                is_open = (ids[:, ask - 1] >= 0) & (bound == scores[:, ask - 1])
            behind = scores < bound[:, None]
            ids, scores = np.where(behind, -1, ids), np.where(behind, np.float32(-np.inf), scores)
        done.append((open_queries[~is_open], (ids[~is_open], scores[~is_open])))
        open_queries = open_queries[is_open]
        ask = min(ask * 4, documents)
    return _together(done, queries)


def _together(parts: list[tuple[npt.NDArray[np.int64], Hits]], queries: int) -> Hits:
    """Puts rows at their numbers, in arrays as wide as the longest row."""
    width = max((int((ids >= 0).sum(axis=1).max(initial=0)) for _, (ids, _) in parts), default=0)
    all_ids: Ids = np.full((queries, width), -1, np.int64)
    all_scores: Floats = np.full((queries, width), -np.inf, np.float32)
    for numbers, (ids, scores) in parts:
        used = min(width, ids.shape[1])
        all_ids[numbers, :used], all_scores[numbers, :used] = ids[:, :used], scores[:, :used]
    return all_ids, all_scores


def pad(rows: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]) -> Hits:
    """Makes rows of different lengths one array."""
    width = max((len(ids) for ids, _ in rows), default=0)
    ids: Ids = np.full((len(rows), width), -1, np.int64)
    scores: Floats = np.full((len(rows), width), -np.inf, np.float32)
    for number, (row_ids, row_scores) in enumerate(rows):
        ids[number, : len(row_ids)] = row_ids
        scores[number, : len(row_scores)] = row_scores
    return ids, scores
