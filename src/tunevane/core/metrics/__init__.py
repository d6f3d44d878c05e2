"""Retrieval metrics: exact, with ties taken in expectation, as array operations."""

from tunevane.core.metrics.evaluation import Evaluation, Ties, combine, evaluate, required_depth
from tunevane.core.metrics.judgements import Judgements
from tunevane.core.metrics.metric import Metric, MetricInfo
from tunevane.core.metrics.ranking import Ranking
from tunevane.core.metrics.registry import DEFAULT_METRICS, describe, list_metrics
from tunevane.core.metrics.results import Results

__all__ = [
    "DEFAULT_METRICS",
    "Evaluation",
    "Judgements",
    "Metric",
    "MetricInfo",
    "Ranking",
    "Results",
    "Ties",
    "combine",
    "describe",
    "evaluate",
    "list_metrics",
    "required_depth",
]
