"""Asks the evaluator for the metrics of a checkpoint, and keeps asking while it is away."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import grpc

from tunevane import log
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.evaluator.v1 import evaluator_service_pb2_grpc
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import blob_pb2, component_pb2, event_pb2, metric_pb2
from tunevane.callback import EvaluationCallback
from tunevane.core import bundles
from tunevane.errors import (
    BlobsMissingError,
    CancelledError,
    EvaluationFailedError,
    ResourceExhaustedError,
    StorageFullError,
    UnavailableError,
)
from tunevane.rpc.blob_client import BlobClient
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training.reporter import Reporter, log_event

_log = log.get("measure")

_ACTIVITIES = {
    wire.EVALUATION_STEP_QUEUED: "queued",
    wire.EVALUATION_STEP_LOADING: "loading",
    wire.EVALUATION_STEP_INDEXING: "indexing",
    wire.EVALUATION_STEP_SEARCHING: "searching",
    wire.EVALUATION_STEP_SCORING: "scoring",
}
REPORT_SECONDS = 0.5


@dataclass
class Measured:
    """What the evaluations of one moment gave together."""

    values: dict[str, float] = field(default_factory=dict)
    """Metrics by full name."""

    warnings: list[str] = field(default_factory=list)
    """Sentences for people."""

    examples: dict[str, object] = field(default_factory=dict)
    """Example results by evaluation."""

    def event(self, stage: event_pb2.Stage.ValueType, store: BlobStore) -> event_pb2.Event:
        """States the metrics as an event; the examples become a blob."""
        measured = event_pb2.MetricsMeasured(
            stage=stage, metrics=metric_pb2.MetricSet(values=self.values), warnings=self.warnings
        )
        if self.examples:
            measured.examples.CopyFrom(
                store.put_bytes(json.dumps(self.examples, ensure_ascii=False, sort_keys=True).encode())
            )
        return event_pb2.Event(metrics_measured=measured)


class Evaluator:
    """The evaluator service as one run sees it."""

    def __init__(
        self,
        channel: grpc.Channel,
        store: BlobStore,
        reporter: Reporter,
        stopping: Callable[[], bool],
        run: str,
        spec: run_pb2.RunSpec,
    ) -> None:
        self._stub = evaluator_service_pb2_grpc.EvaluatorServiceStub(channel)
        self._blobs = BlobClient(channel)
        self._store = store
        self._reporter = reporter
        self._run = run
        self._stopping = stopping
        self._model = spec.model
        self._seed = spec.seed

    def measure(
        self, evaluations: Sequence[tuple[EvaluationCallback, component_pb2.Component]], weights: blob_pb2.Bundle
    ) -> Measured:
        """Measures weights with every evaluation of the run, in the order given.

        Raises:
            EvaluationFailedError: One failed, and its callback says that the run fails then.
            UnavailableError: The evaluator stayed away for longer than the callback allows.
            CancelledError: The run is to stop.

        """
        merged = Measured()
        for callback, component in evaluations:
            name = callback.caption or self._model.name
            plan = callback.plan(
                component.attachments["query_data"],
                component.attachments.get("index_data", None),
                self._seed,
            )
            request = wire.EvaluateRequest(
                run=self._run,
                cause=self._reporter.stamp(event_pb2.Event()),
                model=self._model,
                checkpoint=weights,
                plan=plan,
            )
            try:
                result = self._evaluate(request, name, callback.timeout_seconds)
            except EvaluationFailedError as error:
                if callback.on_failure == "fail":
                    raise
                merged.warnings.append(f"the evaluation '{name}' failed and was skipped: {error}")
                continue
            for metric, value in result.metrics.values.items():
                merged.values[callback.full_name(metric, self._model.name)] = value
            merged.warnings.extend(result.warnings)
            if result.HasField("examples"):
                self._blobs.fetch([result.examples], self._store)
                merged.examples[name] = json.loads(self._store.read(result.examples))
        # The service's map has no order; ours is that of the callbacks and their metrics.
        order = [name for callback, _ in evaluations for name in callback.measured(self._model.name)]
        merged.values = {name: merged.values[name] for name in order if name in merged.values}
        return merged

    def _evaluate(self, request: wire.EvaluateRequest, name: str, timeout_seconds: float) -> wire.EvaluationResult:
        until = time.monotonic() + timeout_seconds
        pause, told = 0.2, 0.0
        while True:
            try:
                return self._once(request, name, until)
            except BlobsMissingError:
                # It lost its cache, or has not seen these files yet: the next attempt sends them.
                continue
            except StorageFullError:
                raise
            except (UnavailableError, ResourceExhaustedError) as error:
                if time.monotonic() >= until:
                    raise UnavailableError(
                        f"the evaluation '{name}' did not succeed within {timeout_seconds:g} seconds: {error}"
                    ) from error
                if time.monotonic() - told > 60:
                    told = time.monotonic()
                    self._reporter.emit(log_event(f"Waiting for the evaluator: {error}", event_pb2.SEVERITY_WARNING))
                wait = max(pause, float(getattr(error, "details", {}).get("retry_after_seconds", 0)))
                self._pause(min(wait * random.uniform(0.8, 1.2), max(until - time.monotonic(), 0)))
                pause = min(pause * 2, 5.0)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._stopping():
                raise CancelledError("the run was asked to stop")
            time.sleep(min(left, 0.2))

    def _once(self, request: wire.EvaluateRequest, name: str, until: float) -> wire.EvaluationResult:
        plan = request.plan
        needed = [*bundles.refs(request.checkpoint), *bundles.refs(plan.query_data), *bundles.refs(plan.index_data)]
        for attachment in sorted(self._model.attachments):
            needed.extend(bundles.refs(self._model.attachments[attachment]))
        self._blobs.push(self._store, needed)
        reported = 0.0
        responses = self._stub.Evaluate(request, timeout=max(until - time.monotonic(), 1.0))
        for response in self._uncancelled(responses):
            if response.HasField("result"):
                return response.result
            now = time.monotonic()
            if now - reported > REPORT_SECONDS:
                reported = now
                self._reporter.emit(_progress_event(response.progress, name))
        raise UnavailableError("the evaluator ended the call without a result")

    def _uncancelled(self, responses: object) -> Iterator[wire.EvaluateResponse]:
        for response in responses:  # type: ignore[attr-defined]  # grpc's call is an iterator of responses
            if self._stopping():
                responses.cancel()  # type: ignore[attr-defined]  # and can be cancelled
                raise CancelledError("the run was asked to stop")
            yield response


def _progress_event(progress: wire.EvaluationProgress, name: str) -> event_pb2.Event:
    return event_pb2.Event(
        evaluation_reported=event_pb2.EvaluationReported(
            evaluation=name,
            activity=_ACTIVITIES.get(progress.step, "working"),
            done=progress.done,
            total=progress.total,
            items_per_second=progress.items_per_second,
        )
    )
