"""EvaluationCallback: retrieval metrics at every epoch end."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import InitVar, dataclass
from typing import ClassVar, Literal

from tunevane.api.type.v1 import blob_pb2, evaluation_pb2
from tunevane.callback.base import Callback
from tunevane.core.metrics.registry import resolve
from tunevane.core.search_settings import metric_name, parse_all
from tunevane.errors import Problem, TunevaneError

MAX_LAG = 100
"""Each epoch of lag keeps one more checkpoint."""

SEARCH_RECALL = "search_recall"
"""Share of the exact search's results that another way to search finds too."""

_DISTANCES = {
    "cosine": evaluation_pb2.DISTANCE_COSINE,
    "euclidean": evaluation_pb2.DISTANCE_EUCLIDEAN,
    "sqeuclidean": evaluation_pb2.DISTANCE_SQEUCLIDEAN,
}


@dataclass(frozen=True)
class EvaluationCallback(Callback):
    """Measures retrieval before training, at every epoch end, and after.

    The evaluator encodes both sets with the weights at hand, searches the index set for every query in
    the vector database, and scores what comes back.
    """

    name: ClassVar[str] = "evaluation"
    attachments: ClassVar[tuple[str, ...]] = ("query_data", "index_data")

    query_data: object = None
    """The queries: a path, records, or anything else that `train_data` may be. Required."""

    index_data: object = None
    """What is searched; None searches the query set against itself."""

    model: str | None = None
    """Which of a model's two towers encodes the queries, `text` or `image`; None where it has only one."""

    index_model: str | None = None
    """Which of the two towers encodes the index; None is the one of the queries."""

    batch_size: int | None = None
    """Items per encoding batch; None lets the evaluator choose by token budget."""

    exclude_self: bool = True
    """Whether a query's own document is dropped from its results."""

    limit: int = 20
    """Results fetched per query, in [1, 1000]."""

    distance: Literal["cosine", "euclidean", "sqeuclidean"] = "cosine"
    """How two vectors are compared."""

    metrics: tuple[str, ...] | None = None
    """Metrics to compute, for example `ndcg@10`; None computes the reference set."""

    ties: Literal["expected", "position"] = "expected"
    """How equal scores are counted: the mean over all orders, or the order by position."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the encoder."""

    search: str | tuple[str, ...] = "exact"
    """`exact`, or ways to search as in production, for example `("hnsw:m=16,ef=64", "int8")`: each is measured
    besides the exact search, as `ndcg@10[int8]` and `search_recall[int8]`, which callbacks can monitor."""

    multi_modal: bool = False
    """Whether queries and index are of different kinds, one of texts and one of images."""

    gather_examples: bool = False
    """Whether example results are kept, before and after."""

    num_example_queries: int = 5
    """Queries to keep example results for."""

    query_sample_size: int | None = None
    """Queries to measure with, drawn by seed; None measures with all."""

    caption: str | None = None
    """Names this evaluation where a run has several."""

    output_model_names: bool = True
    """Whether metric names begin with the model's name."""

    steps_per_interval: int | None = None
    """Measures also within an epoch, every so many batches: for the record, nothing is decided on it."""

    asynchronous: bool = False
    """Whether the next epochs train while one is measured; decisions stay those of a run that waits."""

    max_lag: int = 1
    """With `asynchronous`: epochs that may be trained while one is measured; the run waits beyond that."""

    on_failure: Literal["fail", "skip"] = "fail"
    """What happens when an evaluation fails: the run fails, or the epoch goes without metrics."""

    timeout_seconds: float = 3600.0
    """How long one evaluation may take, retries included."""

    num_workers: InitVar[int | None] = None
    """Processes that prepared items in earlier systems; accepted with a warning, the evaluator chooses by itself."""

    def __post_init__(self, num_workers: int | None) -> None:
        if num_workers is not None:
            warnings.warn(
                "num_workers has no effect: the evaluator reads, encodes and stores at the same time by itself",
                FutureWarning,
                stacklevel=3,
            )

    @property
    def key(self) -> str:
        """Names this callback within a run."""
        return f"{self.name}/{self.caption}" if self.caption else self.name

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        if self.query_data is None:
            yield Problem("query_data", "is required; give the data set whose items are the queries")
        if not 1 <= self.limit <= 1000:
            yield Problem("limit", f"must be in [1, 1000], not {self.limit}")
        for option in ("batch_size", "query_sample_size", "steps_per_interval"):
            value = getattr(self, option)
            if value is not None and value < 1:
                yield Problem(option, f"must be at least 1, not {value}")
        if self.num_example_queries < 0:
            yield Problem("num_example_queries", f"must be at least 0, not {self.num_example_queries}")
        if not 0 <= self.max_lag <= MAX_LAG:
            yield Problem("max_lag", f"must be in [0, {MAX_LAG}], not {self.max_lag}")
        if not self.timeout_seconds > 0:
            yield Problem("timeout_seconds", f"must be positive, not {self.timeout_seconds}")
        try:
            resolve(self.metrics, max(self.limit, 1))
        except TunevaneError as error:
            yield Problem("metrics", str(error))
        try:
            parse_all(self._searches)
        except TunevaneError as error:
            yield Problem("search", str(error))
        if self.multi_modal and (self.model is None or self.index_model in (None, self.model)):
            yield Problem(
                "multi_modal",
                "needs model and index_model, which differ; give model='text' and"
                " index_model='image', or the other way round",
            )
        elif self.index_model is not None and self.model is None:
            yield Problem("index_model", "needs model, which encodes the queries, too")

    @property
    def lag(self) -> int:
        """Epochs that may be trained while one is measured."""
        return self.max_lag if self.asynchronous else 0

    def measured(self, model_name: str) -> list[str]:
        """Lists the full names of the metrics that it will give."""
        return [self.full_name(name, model_name) for name in self.plain_names]

    @property
    def _searches(self) -> tuple[str, ...]:
        asked = (self.search,) if isinstance(self.search, str) else tuple(self.search)
        return tuple(way for way in asked if way != "exact")

    @property
    def plain_names(self) -> list[str]:
        """Lists the metrics that it gives, each with how it is searched for, as the evaluator names them."""
        exact = [asked.name for asked in resolve(self.metrics, self.limit)]
        ways = [settings.name for settings in parse_all(self._searches)]
        return exact + [metric_name(each, way) for way in ways for each in [*exact, SEARCH_RECALL]]

    def full_name(self, metric: str, model_name: str) -> str:
        """Names a metric of this evaluation: `<caption>_<model>_<metric>`."""
        parts = [self.caption or "", model_name if self.output_model_names else "", metric]
        return "_".join(part for part in parts if part)

    def plan(
        self, query_data: blob_pb2.Bundle, index_data: blob_pb2.Bundle | None, seed: int
    ) -> evaluation_pb2.EvaluationPlan:
        """States what the evaluator is to measure."""
        return evaluation_pb2.EvaluationPlan(
            query_data=query_data,
            index_data=index_data,
            model=self.model or "",
            index_model=self.index_model or "",
            search=self._searches,
            limit=self.limit,
            distance=_DISTANCES[self.distance],
            exclude_self=self.exclude_self,
            metrics=self.metrics or (),
            example_count=self.num_example_queries if self.gather_examples else 0,
            query_sample_size=0 if self.query_sample_size is None else self.query_sample_size,
            seed=seed,
            tie_policy=evaluation_pb2.TIE_POLICY_EXPECTED
            if self.ties == "expected"
            else evaluation_pb2.TIE_POLICY_POSITION,
            precision=evaluation_pb2.PRECISION_FP32 if self.precision == "fp32" else evaluation_pb2.PRECISION_BF16,
            batch_size=0 if self.batch_size is None else self.batch_size,
        )
