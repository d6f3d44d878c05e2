"""What is relevant to which query, and how two searches of the same queries differ."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tunevane.core import metrics as scoring
from tunevane.core.dataset import Dataset
from tunevane.errors import EvaluationFailedError
from tunevane_evaluator.index.port import Floats, Ids, Positions


def own_positions(queries: Dataset, documents: Dataset) -> Positions:
    """Returns the position of each query's own document, -1 where the index has none of its id."""
    position_of = {item.id: position for position, item in enumerate(documents.items)}
    return np.array([position_of.get(item.id, -1) for item in queries.items], np.int64)


def judge(queries: Dataset, documents: Dataset, own: Positions | None) -> scoring.Judgements:
    """Returns what is relevant: by judgements where the queries have some, else by labels.

    Raises:
        EvaluationFailedError: The queries have neither.

    """
    if not any(item.relevant for item in queries.items):
        if all(item.label is None for item in queries.items):
            raise EvaluationFailedError(
                "the queries have neither labels nor judgements, so nothing tells what is relevant;"
                " give a label column, or 'relevant' in each record"
            )
        return scoring.Judgements.from_labels(queries.labels, documents.labels, own)
    position_of = {item.id: position for position, item in enumerate(documents.items)}
    grades = [
        {position_of[name]: grade for name, grade in item.relevant.items() if name in position_of}
        for item in queries.items
    ]
    return scoring.Judgements.from_qrels(grades, len(documents.items), own)


def without_own(ids: Ids, scores: Floats, own: Positions) -> tuple[Ids, Floats]:
    """Moves each query's own document behind its row, as padding.

    Args:
        ids: Positions `[b, k]`.
        scores: Scores `[b, k]`.
        own: Positions `[b]`, -1 where there is none.

    """
    is_own = (ids == own[:, None]) & (own >= 0)[:, None]
    order = np.argsort(is_own | (ids < 0), axis=1, kind="stable")
    kept = np.take_along_axis(np.where(is_own, -1, ids), order, axis=1)
    return kept, np.take_along_axis(np.where(is_own, np.float32(-np.inf), scores), order, axis=1)


def recall(exact: tuple[Ids, Floats], found: Ids, limit: int) -> npt.NDArray[np.float64]:
    """Tells which share of the best `limit` documents of an exact search another one found, `[b]` in [0, 1].

    Documents that tie with the last of the best are as good as it.

    Args:
        exact: Positions and scores of the exact search, `[b, k]`, best first, with whole ties.
        found: Positions that the other search found, `[b, j]`, best first.
        limit: How many of each count.

    """
    ids, scores = exact
    valid = ids >= 0
    wanted = np.minimum(valid.sum(axis=1), limit)
    if not ids.shape[1]:
        return np.ones(len(ids))
    bound = scores[np.arange(len(ids)), np.maximum(wanted, 1) - 1]
    good = np.where(valid & (scores >= bound[:, None]), ids, -1)
    rows = np.arange(len(ids))[:, None]
    # Each row has a range of its own, so that one look-up serves all.
    stride = int(max(ids.max(initial=0), found.max(initial=0))) + 2
    others = found[:, :limit]
    hits = np.isin(others + 1 + rows * stride, (good + 1 + rows * stride)[good >= 0]) & (others >= 0)
    return np.where(wanted > 0, np.minimum(hits.sum(axis=1), wanted) / np.maximum(wanted, 1), 1.0)
