"""Retrieval metrics: exact, with ties taken in expectation, as array operations."""

from tunevane.core.scoring.evaluation import Evaluation, Ties, combine, evaluate, required_depth
from tunevane.core.scoring.judgements import Judgements
from tunevane.core.scoring.metric import Metric, MetricInfo
from tunevane.core.scoring.ranking import Ranking
from tunevane.core.scoring.registry import DEFAULT_METRICS, describe, list_metrics
from tunevane.core.scoring.results import Results

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
