"""Expectations over all orders of equal scores, in closed form.

Within a group of `t` equal scores that holds `r` relevant documents, every order is equally likely. Source: McSherry
and Najork, "Computing information retrieval performance measures efficiently in the presence of tied scores",
ECIR 2008; the expectation of average precision divided by the relevant *retrieved* is conditioned on how many of
the cut group's relevant documents come before the cut (hypergeometric).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunevane.core.scoring.judgements import Matrix, Ranking


@dataclass(frozen=True)
class Tied:
    """A ranking seen as groups of equal scores. All arrays are `[q, w]`; padding has size 0."""

    valid: NDArray[np.bool_]
    """Whether there is a result."""

    start: NDArray[np.int64]
    """Results before the group."""

    size: NDArray[np.int64]
    """Results in the group, `t`."""

    relevant: NDArray[np.int64]
    """Relevant results in the group, `r`."""

    before: NDArray[np.int64]
    """Relevant results before the group, `c`."""

    gain: Matrix
    """Mean gain of the group: the expected gain at each of its ranks."""

    rank: NDArray[np.int64]
    """Ranks from 1, `[w]`."""

    returned: NDArray[np.int64]
    """Results per query, `[q]`."""


def group(ranking: Ranking, gains: Matrix, *, expected: bool) -> Tied:
    """Finds the groups of equal scores; without `expected` every result is a group of its own."""
    valid = ranking.ids >= 0
    queries, width = valid.shape
    scores = np.where(valid, ranking.scores, -np.inf)
    first = np.ones((queries, width), bool)
    if expected:
        first[:, 1:] = scores[:, 1:] != scores[:, :-1]
    first[:, 1:] |= valid[:, 1:] != valid[:, :-1]
    number = np.cumsum(first.ravel()) - 1
    groups = int(number[-1]) + 1 if number.size else 0
    flat_valid = valid.ravel()
    is_relevant = (gains > 0) & valid
    size = np.bincount(number, flat_valid, groups).astype(np.int64)
    relevant = np.bincount(number, is_relevant.ravel(), groups).astype(np.int64)
    total = np.bincount(number, (gains * valid).ravel(), groups)
    column = np.broadcast_to(np.arange(width), (queries, width))
    start = column.ravel()[first.ravel()]
    seen = np.cumsum(is_relevant, axis=1) - is_relevant
    before = seen.ravel()[first.ravel()]
    mean = np.divide(total, size, out=np.zeros(groups), where=size > 0)

    def spread(values: NDArray[np.generic]) -> NDArray[np.generic]:
        return values[number].reshape(queries, width)

    return Tied(
        valid,
        spread(start),  # type: ignore[arg-type]  # numpy keeps the element type through indexing
        spread(size),  # type: ignore[arg-type]
        spread(relevant),  # type: ignore[arg-type]
        spread(before),  # type: ignore[arg-type]
        spread(mean) * valid,  # type: ignore[arg-type,operator]
        np.arange(1, width + 1),
        valid.sum(axis=1),
    )


def hits(tied: Tied, cutoff: NDArray[np.int64]) -> NDArray[np.float64]:
    """Expected relevant results within each query's cut-off, `[q]`."""
    share = np.divide(tied.relevant, tied.size, out=np.zeros(tied.valid.shape), where=tied.valid)
    return (share * (tied.rank <= cutoff[:, None])).sum(axis=1)


def precision_sum(tied: Tied, cutoff: NDArray[np.int64]) -> NDArray[np.float64]:
    """Expected sum, over the relevant results within the cut-off, of the precision at their rank, `[q]`."""
    within = tied.valid & (tied.rank <= cutoff[:, None])
    return (_precision_terms(tied.size, tied.relevant, tied.before, tied.start, tied.rank) * within).sum(axis=1)


def _precision_terms(
    size: NDArray[np.int64],
    relevant: NDArray[np.int64],
    before: NDArray[np.int64],
    start: NDArray[np.int64],
    rank: NDArray[np.int64],
) -> NDArray[np.float64]:
    """P(the rank is relevant) times the expected precision there, given that it is."""
    place = rank - start
    others = np.divide((relevant - 1) * (place - 1), size - 1, out=np.zeros(size.shape), where=size > 1)
    share = np.divide(relevant, size, out=np.zeros(size.shape), where=size > 0)
    terms: NDArray[np.float64] = share * (before + 1 + others) / rank
    return terms


def average_precision_retrieved(tied: Tied, cutoff: NDArray[np.int64]) -> NDArray[np.float64]:
    """Expected average precision divided by the relevant results *retrieved*, `[q]`."""
    total = precision_sum(tied, cutoff)
    found = hits(tied, cutoff)
    value = np.divide(total, found, out=np.zeros(len(total)), where=found > 0)
    for query in np.flatnonzero(_cut_groups(tied, cutoff)):
        value[query] = _cut_average(tied, int(query), int(cutoff[query]))
    return value


def _cut_groups(tied: Tied, cutoff: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tells which queries have a group with some relevant documents across their cut-off, `[q]`."""
    if tied.valid.shape[1] == 0:
        return np.zeros(len(cutoff), bool)
    rows = np.arange(len(cutoff))
    last = np.minimum(cutoff, tied.valid.shape[1]) - 1
    size, start, relevant = (array[rows, last] for array in (tied.size, tied.start, tied.relevant))
    cut: NDArray[np.bool_] = (start + size > cutoff) & (relevant > 0) & (relevant < size) & (cutoff > 0)
    return cut


def _cut_average(tied: Tied, query: int, cutoff: int) -> float:
    last = cutoff - 1
    size, start = int(tied.size[query, last]), int(tied.start[query, last])
    relevant, before = int(tied.relevant[query, last]), int(tied.before[query, last])
    whole = precision_sum(_row(tied, query), np.array([start]))[0]
    taken = cutoff - start
    rank = np.arange(start + 1, cutoff + 1)
    value = 0.0
    for inside in range(max(0, taken - (size - relevant)), min(relevant, taken) + 1):
        chance = np.exp(
            _log_choose(relevant, inside) + _log_choose(size - relevant, taken - inside) - _log_choose(size, taken)
        )
        if before + inside:
            full = np.full(taken, 1)
            terms = _precision_terms(taken * full, inside * full, before * full, start * full, rank)
            value += chance * (whole + terms.sum()) / (before + inside)
    return float(value)


def _row(tied: Tied, query: int) -> Tied:
    rows = slice(query, query + 1)
    return Tied(
        tied.valid[rows],
        tied.start[rows],
        tied.size[rows],
        tied.relevant[rows],
        tied.before[rows],
        tied.gain[rows],
        tied.rank,
        tied.returned[rows],
    )


_LOG_FACTORIALS = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 2049)))])


def _log_factorial(number: int) -> float:
    global _LOG_FACTORIALS
    if number >= len(_LOG_FACTORIALS):
        _LOG_FACTORIALS = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 2 * number + 1)))])
    return float(_LOG_FACTORIALS[number])


def _log_choose(total: int, chosen: int) -> float:
    return _log_factorial(total) - _log_factorial(chosen) - _log_factorial(total - chosen)


def first_relevant(tied: Tied, cutoff: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Chance of a relevant result within the cut-off, and expected reciprocal rank of the first, both `[q]`.

    Only the first group with relevant documents matters. There, the chance that the first `j` of its `t` places hold
    none of its `r` is the product of `(t - r - i) / (t - i)` for `i < j`.
    """
    within = tied.valid & (tied.rank <= cutoff[:, None]) & (tied.before == 0) & (tied.relevant > 0)
    place = tied.rank - tied.start
    left = np.maximum(tied.size - place + 1, 1)
    miss = np.where(within, np.maximum(left - tied.relevant, 0) / left, 1.0)
    none_up_to = np.cumprod(miss, axis=1)
    none_before = np.concatenate([np.ones((len(miss), 1)), none_up_to[:, :-1]], axis=1)
    chance = np.where(within, none_before - none_up_to, 0.0)
    return chance.sum(axis=1), (chance / tied.rank).sum(axis=1)
