"""The reference set: docarray 0.21's definitions, reported by default so that numbers can be compared.

Two differ from the textbook: average precision divides by the relevant documents that were found, and the
discount of DCG weighs ranks 1 and 2 the same. Here k is `limit` and relevance counts as 0 or 1.
"""

from __future__ import annotations

import math

import numpy as np

from tunevane.core.metrics.metric import Metric
from tunevane.core.metrics.ranking import Floats
from tunevane.core.metrics.results import Results


def burges_discount(ranks: Floats) -> Floats:
    """1 at rank 1 and 1 / log2(rank) after it: ranks 1 and 2 weigh the same."""
    return 1.0 / np.log2(np.maximum(ranks, 2.0))


def _precision(results: Results, k: int) -> Floats:
    return results.hits(k) / np.maximum(results.kept(k), 1.0)


def recall(results: Results, k: int) -> Floats:
    """Hits over R [q], 0 where R is 0."""
    return results.hits(k) / np.maximum(results.total, 1.0)


def _f1(results: Results, k: int) -> Floats:
    # 2PR / (P + R) with P = h / n and R = h / R is 2h / (n + R): linear in h, so exact under ties.
    return 2.0 * results.hits(k) / np.maximum(results.kept(k) + results.total, 1.0)


def hit(results: Results, k: int) -> Floats:
    """1 where the first k results hold something relevant [q]."""
    return results.any_hit(k)


def reciprocal_rank(results: Results, k: int) -> Floats:
    """1 / rank of the first relevant result within k [q]."""
    return results.reciprocal_rank(k)


def _average_precision(results: Results, k: int) -> Floats:
    return results.average_precision_of_found(k)


def _dcg(results: Results, k: int) -> Floats:
    return results.weighted_hits(burges_discount, k)


PRECISION_AT_K = Metric("precision_at_k", _precision, (0.0, 1.0), "h / n", "Share of the results that are relevant.")
RECALL_AT_K = Metric("recall_at_k", recall, (0.0, 1.0), "h / R", "Share of the relevant documents that were found.")
F1_SCORE_AT_K = Metric(
    "f1_score_at_k", _f1, (0.0, 1.0), "2PR / (P + R)", "Harmonic mean of precision and recall, per query."
)
HIT_AT_K = Metric(
    "hit_at_k", hit, (0.0, 1.0), "1 if h > 0 else 0", "Share of the queries that found something relevant."
)
AVERAGE_PRECISION = Metric(
    "average_precision",
    _average_precision,
    (0.0, 1.0),
    "(1/h) * sum over relevant i of (relevant in 1..i) / i",
    "Mean precision at the ranks of the relevant documents that were found.",
)
RECIPROCAL_RANK = Metric(
    "reciprocal_rank", reciprocal_rank, (0.0, 1.0), "1 / rank of the first relevant", "How early the first hit comes."
)
DCG_AT_K = Metric(
    "dcg_at_k",
    _dcg,
    (0.0, math.inf),
    "rel_1 + sum_{i>=2} rel_i / log2(i)",
    "Discounted cumulative gain; ranks 1 and 2 weigh the same.",
)

METRICS = (
    PRECISION_AT_K,
    RECALL_AT_K,
    F1_SCORE_AT_K,
    HIT_AT_K,
    AVERAGE_PRECISION,
    RECIPROCAL_RANK,
    DCG_AT_K,
)
"""In the order in which they are reported."""
