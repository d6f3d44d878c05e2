"""The metrics there are: name, direction, range and formula of each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunevane.core.scoring import ties
from tunevane.core.scoring.judgements import Judgements
from tunevane.core.scoring.ties import Tied
from tunevane.core.specs import unknown
from tunevane.errors import InvalidRequestError

Values = NDArray[np.float64]
Formula = Callable[[Tied, Judgements, int], Values]
"""Takes a grouped ranking, the judgements and a cut-off; returns a value per query, `[q]`."""


@dataclass(frozen=True)
class MetricInfo:
    """What a metric is."""

    name: str
    """Name, without a cut-off."""

    formula: str
    """Definition per query: `h` relevant among `n` returned, `R` relevant in the index, `rel_i` at rank i, cut-off k."""

    compute: Formula
    """The definition as array operations."""

    takes_cutoff: bool = True
    """Whether a cut-off is written after `@`; the reference set is cut at the search's limit."""

    direction: Literal["max", "min"] = "max"
    """Which way is better."""

    range: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest value; infinity where there is no bound."""


def _cut(tied: Tied, k: int) -> NDArray[np.int64]:
    return np.minimum(tied.returned, k)


def _over(value: Values, divisor: NDArray[np.generic] | int) -> Values:
    by = np.broadcast_to(np.asarray(divisor, np.float64), value.shape)
    return np.divide(value, by, out=np.zeros(value.shape), where=by > 0)


def _precision_returned(tied: Tied, judged: Judgements, k: int) -> Values:
    return _over(ties.hits(tied, _cut(tied, k)), _cut(tied, k))


def _precision(tied: Tied, judged: Judgements, k: int) -> Values:
    return ties.hits(tied, _cut(tied, k)) / k


def _recall(tied: Tied, judged: Judgements, k: int) -> Values:
    return _over(ties.hits(tied, _cut(tied, k)), judged.relevant)


def _f1(tied: Tied, judged: Judgements, k: int) -> Values:
    # 2PR / (P + R) with P = h / n and R = h / R is 2h / (n + R), which is linear in h.
    cut = _cut(tied, k)
    return _over(2 * ties.hits(tied, cut), np.where(judged.relevant > 0, cut + judged.relevant, 0))


def _hit(tied: Tied, judged: Judgements, k: int) -> Values:
    return ties.first_relevant(tied, _cut(tied, k))[0]


def _reciprocal_rank(tied: Tied, judged: Judgements, k: int) -> Values:
    return ties.first_relevant(tied, _cut(tied, k))[1]


def _average_precision(tied: Tied, judged: Judgements, k: int) -> Values:
    return ties.average_precision_retrieved(tied, _cut(tied, k))


def _map(tied: Tied, judged: Judgements, k: int) -> Values:
    return _over(ties.precision_sum(tied, _cut(tied, k)), judged.relevant)


def _map_at_most(tied: Tied, judged: Judgements, k: int) -> Values:
    return _over(ties.precision_sum(tied, _cut(tied, k)), np.minimum(judged.relevant, k))


def _dcg_reference(tied: Tied, judged: Judgements, k: int) -> Values:
    discount = 1 / np.maximum(np.log2(np.maximum(tied.rank, 2)), 1)
    share = np.divide(tied.relevant, tied.size, out=np.zeros(tied.valid.shape), where=tied.valid)
    value: Values = (share * discount * (tied.rank <= k)).sum(axis=1)
    return value


def _dcg(tied: Tied, judged: Judgements, k: int) -> Values:
    value: Values = (tied.gain / np.log2(tied.rank + 1) * (tied.rank <= k)).sum(axis=1)
    return value


def _ndcg(tied: Tied, judged: Judgements, k: int) -> Values:
    ideal = (judged.ideal(k) / np.log2(np.arange(2, k + 2))).sum(axis=1)
    return _over(_dcg(tied, judged, k), ideal)


def _r_precision(tied: Tied, judged: Judgements, k: int) -> Values:
    return _over(ties.hits(tied, np.minimum(tied.returned, judged.relevant)), judged.relevant)


REFERENCE = (
    MetricInfo("precision_at_k", "h / n", _precision_returned, takes_cutoff=False),
    MetricInfo("recall_at_k", "h / R", _recall, takes_cutoff=False),
    MetricInfo("f1_score_at_k", "2PR / (P + R); 0 if P + R = 0", _f1, takes_cutoff=False),
    MetricInfo("hit_at_k", "1 if h > 0 else 0", _hit, takes_cutoff=False),
    MetricInfo(
        "average_precision",
        "(1 / h) * sum over relevant i of (relevant in 1..i) / i",
        _average_precision,
        takes_cutoff=False,
    ),
    MetricInfo("reciprocal_rank", "1 / rank of the first relevant", _reciprocal_rank, takes_cutoff=False),
    MetricInfo(
        "dcg_at_k",
        "rel_1 + sum over i >= 2 of rel_i / log2(i)",
        _dcg_reference,
        takes_cutoff=False,
        range=(0.0, float("inf")),
    ),
)

STANDARD = (
    MetricInfo("dcg", "sum of gain_i / log2(i + 1), i <= k", _dcg, range=(0.0, float("inf"))),
    MetricInfo("hit", "1 if one of the first k is relevant else 0", _hit),
    MetricInfo("map", "(1 / R) * sum over relevant i <= k of (relevant in 1..i) / i", _map),
    MetricInfo("map_min", "as map, divided by min(k, R)", _map_at_most),
    MetricInfo("mrr", "1 / rank of the first relevant, 0 if it is after k", _reciprocal_rank),
    MetricInfo("ndcg", "dcg@k / dcg@k of the best ranking of all judged documents", _ndcg),
    MetricInfo("precision", "relevant in the first k, / k", _precision),
    MetricInfo("recall", "relevant in the first k, / R", _recall),
    MetricInfo("r_precision", "relevant in the first R, / R", _r_precision, takes_cutoff=False),
)

_BY_NAME = {info.name: info for info in (*REFERENCE, *STANDARD)}
_WRITTEN = re.compile(r"([a-z][a-z0-9_]*)(?:@(\d+(?:,\d+)*))?")
MAX_CUTOFF = 1000


def parse(written: str) -> list[tuple[str, MetricInfo, int | None]]:
    """Reads a metric as people write it: `average_precision`, `ndcg@10`, `recall@1,10,100`.

    Returns:
        Full name, metric and cut-off of each that is meant; no cut-off where the search's limit cuts.

    Raises:
        InvalidRequestError: The metric is unknown, or its cut-off is missing, needless or out of range.

    """
    match = _WRITTEN.fullmatch(written)
    name, cutoffs = match.groups() if match else (written.partition("@")[0], None)
    if name not in _BY_NAME:
        raise InvalidRequestError(unknown("metric", name[:80], _BY_NAME))
    info = _BY_NAME[name]
    if not info.takes_cutoff:
        if cutoffs is not None:
            raise InvalidRequestError(f"'{name}' takes no cut-off, so write it without @{cutoffs}")
        return [(name, info, None)]
    if cutoffs is None:
        raise InvalidRequestError(f"'{name}' needs a cut-off, for example {name}@10")
    numbers = [int(each) for each in cutoffs.split(",")]
    if any(not 1 <= number <= MAX_CUTOFF for number in numbers):
        raise InvalidRequestError(f"the cut-offs of '{written}' must be in [1, {MAX_CUTOFF}]")
    return [(f"{name}@{number}", info, number) for number in numbers]


def describe(written: str) -> MetricInfo:
    """Returns what a metric is.

    Raises:
        InvalidRequestError: It is unknown.

    """
    return parse(written)[0][1]


def list_metrics() -> list[MetricInfo]:
    """Lists the metrics, the reference set first."""
    return list(_BY_NAME.values())
