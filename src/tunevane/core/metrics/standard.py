"""The standard set: trec_eval's definitions, asked for by name with any cut-offs."""

from __future__ import annotations

import math

import numpy as np

from tunevane.core.metrics.metric import Metric
from tunevane.core.metrics.ranking import Floats
from tunevane.core.metrics.reference import hit, recall, reciprocal_rank
from tunevane.core.metrics.results import Results, log2_discount


def _ndcg(results: Results, k: int) -> Floats:
    gain, ideal = results.weighted_gain(log2_discount, k), results.ideal_gain(log2_discount, k)
    return np.divide(gain, ideal, out=np.zeros_like(gain), where=ideal > 0)


def _dcg(results: Results, k: int) -> Floats:
    return results.weighted_gain(log2_discount, k)


def _map(results: Results, k: int) -> Floats:
    return results.precision_sum(k) / np.maximum(results.total, 1.0)


def _map_min(results: Results, k: int) -> Floats:
    return results.precision_sum(k) / np.maximum(np.minimum(results.total, k), 1.0)


def _precision(results: Results, k: int) -> Floats:
    return results.hits(k) / k


def _f1(results: Results, k: int) -> Floats:
    return 2.0 * results.hits(k) / (k + results.total)


def _r_precision(results: Results, _: int) -> Floats:
    return results.hits_at_total() / np.maximum(results.total, 1.0)


NDCG = Metric(
    "ndcg@k",
    _ndcg,
    (0.0, 1.0),
    "DCG / DCG of the ideal ranking of all judged documents; DCG = sum_i grade_i / log2(i + 1)",
    "Normalised discounted cumulative gain: graded, and early ranks count more.",
)
MAP = Metric(
    "map@k",
    _map,
    (0.0, 1.0),
    "(1/R) * sum over relevant i <= k of (relevant in 1..i) / i",
    "Mean average precision: what was not found counts as 0.",
)
MAP_MIN = Metric(
    "map_min@k",
    _map_min,
    (0.0, 1.0),
    "(1/min(k, R)) * sum over relevant i <= k of (relevant in 1..i) / i",
    "Mean average precision as sentence-transformers and MTEB report it: a full first k scores 1.",
)
MRR = Metric(
    "mrr@k",
    reciprocal_rank,
    (0.0, 1.0),
    "1 / rank of the first relevant within k, else 0",
    "Mean reciprocal rank: how early the first hit comes.",
)
RECALL = Metric("recall@k", recall, (0.0, 1.0), "h / R", "Share of the relevant documents among the first k.")
PRECISION = Metric("precision@k", _precision, (0.0, 1.0), "h / k", "Share of the first k places that are relevant.")
HIT = Metric("hit@k", hit, (0.0, 1.0), "1 if h > 0 else 0", "Share of the queries with a hit among the first k.")
F1 = Metric("f1@k", _f1, (0.0, 1.0), "2h / (k + R)", "Harmonic mean of precision@k and recall@k, per query.")
DCG = Metric(
    "dcg@k", _dcg, (0.0, math.inf), "sum_i grade_i / log2(i + 1)", "Discounted cumulative gain, not normalised."
)
R_PRECISION = Metric(
    "r_precision",
    _r_precision,
    (0.0, 1.0),
    "relevant among the first R / R",
    "Precision at the rank where a perfect search would have found everything.",
    needs_all_relevant=True,
)

METRICS = (NDCG, MAP, MAP_MIN, MRR, RECALL, PRECISION, HIT, F1, DCG, R_PRECISION)
