"""Scores a ranking against judgements: every metric, per query and as the plain mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tunevane.core.metrics.expectation import entries
from tunevane.core.metrics.judgements import Judgements
from tunevane.core.metrics.lookup import Sorted
from tunevane.core.metrics.ranking import PAD, Flags, Floats, Ints, Ranking
from tunevane.core.metrics.registry import Asked, resolve
from tunevane.core.metrics.results import Results
from tunevane.errors import InvalidRequestError

Ties = Literal["expected", "position"]

_BLOCK_RESULTS = 1_000_000
"""Results scored at once: bounds the working memory, whatever the number of queries and ties."""


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one search."""

    values: dict[str, float]
    """The mean over all queries by metric, in the order asked for."""

    per_query: dict[str, Floats]
    """The value of each query [q] by metric."""

    queries_without_relevant: int
    """Queries with nothing relevant in the index: they score 0 in everything and stay in the mean."""

    collapsed_fraction: float
    """Share of the queries whose whole result is one tie of two or more documents."""


def required_depth(metrics: Sequence[str] | None, limit: int, judgements: Judgements | None = None) -> int:
    """Tells how many results per query a search has to return (and all that tie with the last of them).

    The largest cut-off asked for; with judgements also the largest R if a metric needs to look that deep
    (`r_precision`), otherwise what was not searched counts as not found, as in trec_eval.

    Raises:
        InvalidRequestError: As `evaluate`.

    """
    return _depth(resolve(metrics, limit), judgements)


def evaluate(
    ranking: Ranking,
    judgements: Judgements,
    metrics: Sequence[str] | None = None,
    *,
    limit: int,
    ties: Ties = "expected",
) -> Evaluation:
    """Computes metrics.

    Args:
        ranking: What the search found, at least `required_depth` columns or all there is.
        judgements: What is relevant.
        metrics: Names, for example `["ndcg@10", "recall@1,10,100"]`; None: `DEFAULT_METRICS`.
        limit: The k of every metric that is named without a cut-off.
        ties: `expected`: the expectation over all orders of equal scores; `position`: the order as it is.

    Raises:
        InvalidRequestError: A name is unknown, a cut-off is below 1, or ranking and judgements do not fit.

    """
    asked = resolve(metrics, limit)
    if ties not in ("expected", "position"):
        raise InvalidRequestError(f"ties must be 'expected' or 'position', got '{ties}'")
    if ranking.queries != judgements.queries:
        raise InvalidRequestError(
            f"the ranking has {ranking.queries} queries but the judgements have {judgements.queries}"
        )
    depth = _depth(asked, judgements)
    rows = max(_BLOCK_RESULTS // max(ranking.ids.shape[1], 1), 1)
    parts = [
        _score_block(ranking.ids[at : at + rows], ranking.scores[at : at + rows], part, asked, depth, ties)
        for at in range(0, ranking.queries, rows)
        for part in [judgements if rows >= ranking.queries else judgements.rows(at, at + rows)]
    ]
    return combine(parts)


def combine(parts: Sequence[Evaluation]) -> Evaluation:
    """Joins the evaluations of consecutive blocks of queries, equal to one evaluation of them all.

    Raises:
        InvalidRequestError: There are no parts, or they hold different metrics.

    """
    if not parts:
        raise InvalidRequestError("there is nothing to combine: no evaluation was given")
    if any(list(part.per_query) != list(parts[0].per_query) for part in parts):
        raise InvalidRequestError("evaluations can only be combined when they hold the same metrics")
    if len(parts) == 1:
        per_query = parts[0].per_query
    else:
        per_query = {name: np.concatenate([part.per_query[name] for part in parts]) for name in parts[0].per_query}
    values = {name: float(scores.mean()) for name, scores in per_query.items()}
    for name, value in values.items():
        if not math.isfinite(value):  # so is a mean with anything in it that is not finite
            raise InvalidRequestError(_malformed(name, len(per_query[name])))
    sizes = [len(next(iter(part.per_query.values()))) for part in parts]
    collapsed = sum(round(part.collapsed_fraction * size) for part, size in zip(parts, sizes, strict=True))
    without = sum(part.queries_without_relevant for part in parts)
    return Evaluation(values, per_query, without, collapsed / sum(sizes))


def _malformed(name: str, queries: int) -> str:
    return f"metric '{name}' must give one finite number for each of the {queries} queries"


def _depth(asked: Sequence[Asked], judgements: Judgements | None) -> int:
    depth = max(one.cutoff for one in asked)
    if judgements is not None and any(one.metric.needs_all_relevant for one in asked):
        depth = max(depth, int(judgements.relevant.max()))
    return depth


def _score_block(
    ids: Ints,
    scores: npt.NDArray[np.floating],
    judgements: Judgements,
    asked: Sequence[Asked],
    depth: int,
    ties: Ties,
) -> Evaluation:
    ordered = Sorted.by_document(ids)
    _check_ids(ids, ordered, judgements)
    places, grades = judgements.locate(ids, ordered)
    found = entries(scores, ids, places, grades, depth, ties == "expected")
    # Pads are at the end of a row, so a last column without any tells that there are none.
    complete = ids.size > 0 and bool((ids[:, -1] != PAD).all())
    kept = np.full(len(ids), ids.shape[1]) if complete else (ids != PAD).sum(axis=1)
    results = Results(found, kept, judgements, [one.cutoff for one in asked])
    per_query = {one.name: one.metric.score(results, one.cutoff) for one in asked}
    for name, scores_of_queries in per_query.items():
        if np.shape(scores_of_queries) != (len(ids),):
            raise InvalidRequestError(_malformed(name, len(ids)))
    without = int((judgements.relevant == 0).sum())
    return Evaluation({}, per_query, without, float(_collapsed(scores, kept, depth).mean()))


def _check_ids(ids: Ints, ordered: Sorted, judgements: Judgements) -> None:
    """Refuses results that are not in the index, stand twice in a row or are the query itself."""
    if ordered.highest >= judgements.documents or ordered.lowest < PAD:
        unknown = ids[(ids >= judgements.documents) | (ids < PAD)][0]
        raise InvalidRequestError(
            f"a result names document {unknown}, but the index has {judgements.documents} documents"
        )
    own = np.where(judgements.self_positions == PAD, PAD - 1, judgements.self_positions)
    if (own >= 0).any() and (ids == own[:, None]).any():
        raise InvalidRequestError("a query is among its own results; remove it from the ranking before scoring")
    if ordered.repeated().any():
        raise InvalidRequestError("a document stands twice among the results of one query; ids must be unique")


def _collapsed(scores: npt.NDArray[np.floating], kept: Ints, depth: int) -> Flags:
    flags = np.zeros(len(kept), np.bool_)
    if scores.shape[1] > 1:
        maybe = np.flatnonzero(scores[:, 0] == scores[:, 1])  # few, as a rule
        last = np.minimum(kept[maybe], depth) - 1
        flags[maybe] = (last >= 1) & (scores[maybe, 0] == scores[maybe, last])
    return flags
