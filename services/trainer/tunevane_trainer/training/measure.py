"""Measures weights with the evaluations of a run, and merges what they give."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import blob_pb2, component_pb2, event_pb2, metric_pb2
from tunevane.callback import EvaluationCallback
from tunevane.callback.evaluation import SEARCH_RECALL
from tunevane.core.examples import shorten
from tunevane.core.search_settings import metric_name
from tunevane.core.statistics import Floats
from tunevane.errors import EvaluationFailedError, UnavailableError
from tunevane.storage.blobs import BlobStore
from tunevane.storage.thumbnails import Thumbnails
from tunevane_trainer.training.against import Against
from tunevane_trainer.training.patience import Evaluates, Moment

Evaluation = tuple[EvaluationCallback, component_pb2.Component]
"""A callback, and the message that it came in, which has its data."""


@dataclass
class Measured:
    """What the evaluations of one moment gave together."""

    values: dict[str, float] = field(default_factory=dict)
    """Metrics by full name."""

    warnings: list[str] = field(default_factory=list)
    """Sentences for people."""

    examples: dict[str, object] = field(default_factory=dict)
    """Example results by evaluation."""

    per_query: dict[str, Floats] = field(default_factory=dict)
    """Value of each query [q] by full name of a metric, in the order of the query set."""

    def event(
        self, stage: event_pb2.Stage.ValueType, store: BlobStore, against: Against | None = None
    ) -> event_pb2.Event:
        """States the metrics as an event, with what changed where there is something to compare with."""
        measured = event_pb2.MetricsMeasured(
            stage=stage,
            metrics=metric_pb2.MetricSet(values=self.values),
            warnings=self.warnings,
            intervals={} if against is None else against.intervals(self.per_query),
        )
        if self.examples:
            measured.examples.CopyFrom(
                store.put_bytes(json.dumps(self.examples, ensure_ascii=False, sort_keys=True).encode())
            )
            if stage in (event_pb2.STAGE_BEFORE, event_pb2.STAGE_AFTER):
                measured.shown_examples = shorten(self.examples)
        return event_pb2.Event(metrics_measured=measured)


class Meter:
    """What measures the weights of one run. Threads may share it."""

    def __init__(
        self, evaluator: Evaluates, store: BlobStore, run: run_pb2.Run, evaluations: Sequence[Evaluation]
    ) -> None:
        """Args: who evaluates, where results go, the run, and its evaluations in the order of their keys."""
        self._evaluator = evaluator
        self._store = store
        self._run = run
        self._model = run.spec.model
        self._thumbnails = Thumbnails(store)
        self.model_name = run.spec.model.name
        """What the names of metrics begin with."""
        self.evaluations = evaluations
        """The evaluations of the run."""
        self.lag = max((callback.lag for callback, _ in evaluations), default=0)
        """Epochs that may be trained while one is measured."""

    def measure(
        self, weights: blob_pb2.Bundle, moment: Moment, evaluations: Sequence[Evaluation] | None = None
    ) -> Measured:
        """Measures weights.

        Args:
            weights: In our store.
            moment: When in the run it is.
            evaluations: Which ones, in order; None is all.

        Raises:
            EvaluationFailedError: One failed, and its callback says that the run fails then.
            UnavailableError: The evaluator stayed away for longer than the callback allows.
            CancelledError: Nobody waits for it any more.

        """
        merged = Measured()
        chosen = self.evaluations if evaluations is None else evaluations
        for evaluation in chosen:
            callback, _ = evaluation
            name = callback.caption or self._model.name
            request = self.request(evaluation, weights, moment)
            try:
                result = self.evaluate(evaluation, request, moment)
            except (EvaluationFailedError, UnavailableError) as error:
                if callback.on_failure == "fail":
                    raise
                merged.warnings.append(f"the evaluation '{name}' failed and was skipped: {error}")
                continue
            for metric, value in _values(result).items():
                merged.values[callback.full_name(metric, self._model.name)] = value
            if result.HasField("per_query"):
                with np.load(io.BytesIO(self._store.read(result.per_query)), allow_pickle=False) as values:
                    for metric in values:
                        merged.per_query[callback.full_name(metric, self._model.name)] = values[metric]
            merged.warnings.extend(result.warnings)
            if result.HasField("examples"):
                sets = (request.plan.query_data, request.plan.index_data)
                merged.examples[name] = self._thumbnails.pictured(json.loads(self._store.read(result.examples)), sets)
        # The service's map has no order; ours is that of the callbacks and their metrics.
        order = [name for callback, _ in chosen for name in callback.measured(self._model.name)]
        merged.values = {name: merged.values[name] for name in order if name in merged.values}
        merged.per_query = {name: merged.per_query[name] for name in order if name in merged.per_query}
        return merged

    def names(self, callback: EvaluationCallback) -> dict[str, str]:
        """Returns the full names of an evaluation's metrics by their plain names, in order."""
        return dict(zip(callback.plain_names, callback.measured(self._model.name), strict=True))

    def due(self, batches_done: int) -> list[Evaluation]:
        """Lists the evaluations that measure within an epoch, after so many batches of it."""
        return [
            pair
            for pair in self.evaluations
            if pair[0].steps_per_interval is not None and batches_done % pair[0].steps_per_interval == 0
        ]

    def request(self, evaluation: Evaluation, weights: blob_pb2.Bundle, moment: Moment) -> wire.EvaluateRequest:
        """States one evaluation of weights."""
        callback, component = evaluation
        plan = callback.plan(
            component.attachments["query_data"], component.attachments.get("index_data", None), self._run.spec.seed
        )
        return wire.EvaluateRequest(
            run=self._run.name, cause=moment.event(), model=self._model, checkpoint=weights, plan=plan
        )

    def evaluate(self, evaluation: Evaluation, request: wire.EvaluateRequest, moment: Moment) -> wire.EvaluationResult:
        """Returns what the evaluator makes of a request."""
        callback, _ = evaluation
        name = callback.caption or self._model.name
        return self._evaluator.evaluate(request, name, callback.timeout_seconds, moment)


def _values(result: wire.EvaluationResult) -> dict[str, float]:
    """Returns the metrics of a result by plain name, those of other ways to search among them."""
    found = dict(result.metrics.values)
    for outcome in result.search:
        found |= {metric_name(name, outcome.name): value for name, value in outcome.metrics.values.items()}
        found[metric_name(SEARCH_RECALL, outcome.name)] = outcome.recall
    return found
