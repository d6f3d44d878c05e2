"""What metrics are computed from: sums over the first k places, for every cut-off from one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tunevane.core.metrics.expectation import Entries, Groups
from tunevane.core.metrics.judgements import Judgements
from tunevane.core.metrics.ranking import Flags, Floats, Ints

Weights = Callable[[Floats], Floats]
"""Weight of each rank, from ranks counted from 1 [n] to weights [n]."""


def log2_discount(ranks: Floats) -> Floats:
    """1 / log2(rank + 1), K. Järvelin and J. Kekäläinen, ACM TOIS 20(4), 2002, as trec_eval has it."""
    return 1.0 / np.log2(ranks + 1.0)


class Results:
    """The scored results of q queries; every method takes a cut-off and gives one number per query [q].

    With ties in expectation the numbers are expectations, so a metric that is linear in them is exact.
    """

    def __init__(self, found: Entries, kept: Ints, judgements: Judgements, cutoffs: Sequence[int]) -> None:
        """Args: the entries, the results of each query [q], what is relevant, and the cut-offs to expect."""
        self._entries = found
        self._kept = kept
        self._judgements = judgements
        self._cutoffs = sorted(set(cutoffs))
        self._sums: dict[object, dict[int, Floats]] = {}

    @property
    def total(self) -> Floats:
        """R, the relevant documents in the index [q]."""
        return self._judgements.relevant.astype(np.float64)

    def kept(self, k: int) -> Floats:
        """Number of results within the cut-off [q]: k, or fewer if the search found fewer."""
        return np.minimum(self._kept, k).astype(np.float64)

    def hits(self, k: int) -> Floats:
        """Relevant results among the first k [q]."""
        return self._sum("hits", self._entries.relevant, k)

    def any_hit(self, k: int) -> Floats:
        """1 where the first k results hold something relevant, or the probability of it [q]."""
        return np.minimum(self._sum("first", self._entries.first, k), 1.0)

    def reciprocal_rank(self, k: int) -> Floats:
        """1 / rank of the first relevant result within k, 0 if there is none [q]."""
        if "reciprocal" not in self._sums:
            self._sum("reciprocal", self._entries.first / self._ranks, k)
        return self._sum("reciprocal", None, k)

    def precision_sum(self, k: int) -> Floats:
        """Sum over relevant ranks i <= k of (relevant results in 1..i) / i [q]."""
        if "precision" not in self._sums:
            self._sum("precision", self._entries.joint / self._ranks, k)
        return self._sum("precision", None, k)

    def weighted_hits(self, weights: Weights, k: int) -> Floats:
        """Sum over relevant ranks i <= k of weights(i) [q]."""
        key = ("hits", weights)
        if key not in self._sums:
            chance, weight = self._entries.relevant, self._weigh(weights)
            self._sum(key, weight if chance is None else chance * weight, k)
        return self._sum(key, None, k)

    def weighted_gain(self, weights: Weights, k: int) -> Floats:
        """Sum over ranks i <= k of grade(i) * weights(i) [q]."""
        if self._entries.gain is None:
            return self.weighted_hits(weights, k)
        key = ("gain", weights)
        if key not in self._sums:
            self._sum(key, self._entries.gain * self._weigh(weights), k)
        return self._sum(key, None, k)

    def ideal_gain(self, weights: Weights, k: int) -> Floats:
        """The largest value that `weighted_gain` can take for any ranking of the index [q]."""
        judged = self._judgements
        if judged.pairs is None:
            most = int(judged.relevant.max(initial=0))
            reached = np.concatenate([[0.0], np.cumsum(weights(np.arange(1.0, min(k, most) + 1.0)))])
            return reached[np.minimum(judged.relevant, k)]
        key = ("ideal", weights)
        if key not in self._sums:
            pairs = judged.pairs
            weight = weights(np.arange(1.0, int(judged.relevant.max()) + 1.0))
            self._sums[key] = self._add_up(pairs.queries, pairs.ranks, pairs.ideal * weight[pairs.ranks])
        return self._sums[key][self._announced(k)]

    def hits_at_total(self) -> Floats:
        """Relevant results among the first R [q]."""
        found = self._entries
        inside = found.rank < self._judgements.relevant[found.row]
        chance = None if found.relevant is None else found.relevant[inside]
        return np.bincount(found.row[inside], chance, minlength=self._judgements.queries).astype(np.float64)

    def average_precision_of_found(self, k: int) -> Floats:
        """`precision_sum(k) / hits(k)` [q], 0 without hits; its expectation where a group lies across k."""
        hits = self.hits(k)
        value = np.divide(self.precision_sum(k), hits, out=np.zeros_like(hits), where=hits > 0)
        groups = self._entries.groups
        if groups is not None:
            across = (groups.start < k) & (k < groups.start + groups.size)
            if across.any():
                rows = groups.row[across]
                fixed = self._precision_before(rows, groups.start[across])
                value[rows] = _average_precision_across(_pick(groups, across), fixed, k)
        return value

    def _precision_before(self, rows: Ints, starts: Ints) -> Floats:
        """`precision_sum` of given rows up to the start of a group in each [n]."""
        limit = np.zeros(self._judgements.queries, np.int64)
        limit[rows] = starts
        found = self._entries
        inside = found.rank < limit[found.row]
        value = found.joint[inside] / (found.rank[inside] + 1)
        sums: Floats = np.bincount(found.row[inside], value, minlength=len(limit)).astype(np.float64, copy=False)[rows]
        return sums

    @cached_property
    def _ranks(self) -> Floats:
        ranks: Floats = self._entries.rank.astype(np.float64) + 1.0
        return ranks

    def _weigh(self, weights: Weights) -> Floats:
        deepest = int(self._entries.rank.max(initial=-1)) + 1
        weight: Floats = weights(np.arange(1.0, deepest + 1.0))[self._entries.rank]
        return weight

    def _sum(self, key: object, values: Floats | None, k: int) -> Floats:
        """Adds up values of entries [e] (None: ones) per query and cut-off, once per key."""
        if key not in self._sums:
            self._sums[key] = self._add_up(self._entries.row, self._entries.rank, values)
        return self._sums[key][self._announced(k)]

    def _announced(self, k: int) -> int:
        if k not in self._cutoffs:
            raise ValueError(f"cut-off {k} was not announced; announced are {self._cutoffs}")
        return k

    def _add_up(self, row: Ints, rank: npt.NDArray[np.integer], values: Floats | None) -> dict[int, Floats]:
        """Adds up values [e] (None: ones), each at a query and a rank from 0, over the ranks before each cut-off."""
        # One line per cut-off, and one for what no cut-off includes. Adding up whole lines is several
        # times as fast as a cumulative sum along either axis.
        shape = (len(self._cutoffs) + 1, self._judgements.queries)
        line = np.searchsorted(self._cutoffs, np.arange(int(rank.max(initial=-1)) + 1), side="right") * shape[1]
        flat = np.bincount(line[rank] + row, values, minlength=shape[0] * shape[1])
        table = flat.reshape(shape)[:-1].astype(np.float64, copy=False)
        for number in range(1, len(table)):
            table[number] += table[number - 1]
        return dict(zip(self._cutoffs, table, strict=True))


def _pick(groups: Groups, chosen: Flags) -> Groups:
    return Groups(*(getattr(groups, name)[chosen] for name in Groups.__dataclass_fields__))


def _average_precision_across(groups: Groups, fixed: Floats, k: int) -> Floats:
    """Expected average precision over what was found, for rows whose group lies across the cut-off.

    The number x of relevant documents in the s places before the cut-off is hypergeometric. Given x, they
    stand there in any order with equal probability, so the numerator has its closed form with x and s in
    place of r and m, and the value is the mean of numerator(x) / (c + x) over x.

    Args:
        groups: One group per row [n].
        fixed: Sum of precisions at the relevant ranks before the group [n].
        k: The cut-off.

    """
    width = k - int(groups.start.min())
    x = np.arange(width + 1.0)
    slots = (k - groups.start)[:, None].astype(np.float64)
    size, hits, before = (a[:, None].astype(np.float64) for a in (groups.size, groups.relevant, groups.before))
    # log P(x) up to a constant, from the ratios P(x+1) / P(x): stable for groups of any size.
    lowest = np.maximum(slots - (size - hits), 0.0)
    highest = np.minimum(slots, hits)
    step = (x >= lowest) & (x < highest)
    up = np.where(step, (hits - x) * (slots - x), 1.0)
    down = np.where(step, (x + 1.0) * (size - hits - slots + x + 1.0), 1.0)
    logs = np.zeros((len(size), width + 1))
    np.cumsum(np.log(up[:, :-1] / down[:, :-1]), axis=1, out=logs[:, 1:])
    logs[(x < lowest) | (x > highest)] = -np.inf
    chance = np.exp(logs - logs.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    # Sums of 1/i and of j/i over the slots: i is the rank from 1, j the offset in the group from 0.
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1.0, k + 1.0))])
    plain = (harmonic[k] - harmonic[groups.start])[:, None]
    rising = slots - (groups.start[:, None] + 1.0) * plain
    share = x / slots
    numerator = fixed[:, None] + share * (before + 1.0) * plain
    numerator += share * (x - 1.0) / np.maximum(slots - 1.0, 1.0) * rising
    found = before + x
    value = np.divide(numerator, found, out=np.zeros_like(numerator), where=found > 0)
    mean: Floats = (chance * value).sum(axis=1)
    return mean
