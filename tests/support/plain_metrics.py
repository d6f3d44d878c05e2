"""The definitions for a single ranking, written the way one reads them: what the array code must equal.

Slow on purpose. `reference` has every function of docarray 0.21, also those that are not reported by default.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def reference(rel: Sequence[int], total: int, k: int | None = None) -> dict[str, float]:
    """Scores a ranking by docarray 0.21's definitions.

    Args:
        rel: 1 for a relevant result, 0 for another, best first.
        total: R, the relevant documents in the index.
        k: How many results count; average precision, reciprocal rank and R-precision always see them all.

    """
    cut = list(rel if k is None else rel[:k])
    hits = sum(cut)
    precision, recall = _over(hits, len(cut)), _over(hits, total)
    best = sorted(rel, reverse=True)[: len(cut)]
    ranks = [rank for rank, here in enumerate(rel, 1) if here]
    return {
        "precision_at_k": precision,
        "recall_at_k": recall,
        "f1_score_at_k": _over(2 * precision * recall, precision + recall),
        "hit_at_k": float(hits > 0),
        "average_precision": _over(sum(seen / rank for seen, rank in enumerate(ranks, 1)), len(ranks)),
        "reciprocal_rank": _over(1, ranks[0]) if ranks else 0.0,
        "dcg_at_k": _dcg_reference(cut),
        "dcg_at_k_method1": dcg(cut),
        "ndcg_at_k": _over(_dcg_reference(cut), _dcg_reference(best)),
        "ndcg_at_k_method1": _over(dcg(cut), dcg(best)),
        "r_precision": _over(sum(rel[: len(ranks)]), len(ranks)),
    }


def standard(grades: Sequence[float], judged: Sequence[float], k: int) -> dict[str, float]:
    """Scores a ranking by trec_eval's definitions.

    Args:
        grades: Grade of each result, best result first; 0 where it is not relevant.
        judged: The grades of all relevant documents of the index, in any order.
        k: The cut-off.

    """
    cut, total = grades[:k], len(judged)
    ranks = [rank for rank, grade in enumerate(cut, 1) if grade > 0]
    return {
        "ndcg": _over(dcg(cut), dcg(sorted(judged, reverse=True)[:k])),
        "map": _over(sum(seen / rank for seen, rank in enumerate(ranks, 1)), total),
        "map_min": _over(sum(seen / rank for seen, rank in enumerate(ranks, 1)), min(k, total)),
        "mrr": _over(1, ranks[0]) if ranks else 0.0,
        "recall": _over(len(ranks), total),
        "precision": len(ranks) / k,
        "hit": float(bool(ranks)),
        "f1": _over(2 * len(ranks), k + total),
        "dcg": dcg(cut),
        "r_precision": _over(sum(grade > 0 for grade in grades[:total]), total),
    }


def dcg(gains: Sequence[float]) -> float:
    """Discounted cumulative gain, the sum of gain / log2(rank + 1)."""
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def _dcg_reference(rel: Sequence[int]) -> float:
    """DCG whose discount begins after rank 2, so that ranks 1 and 2 weigh the same."""
    return sum(gain / max(math.log2(rank), 1.0) for rank, gain in enumerate(rel, 1))


def _over(value: float, divisor: float) -> float:
    return value / divisor if divisor else 0.0
