"""The evaluator as a run asks it: patiently, with progress and waiting told in the run's history."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.type.v1 import event_pb2
from tunevane.client.evaluator import EvaluatorClient
from tunevane.errors import NotFoundError, TunevaneError, UnavailableError
from tunevane.storage.blobs import BlobStore
from tunevane_trainer.training.reporter import Reporter, log_event

_ACTIVITIES = {
    wire.EVALUATION_STEP_QUEUED: "queued",
    wire.EVALUATION_STEP_LOADING: "loading",
    wire.EVALUATION_STEP_INDEXING: "indexing",
    wire.EVALUATION_STEP_SEARCHING: "searching",
    wire.EVALUATION_STEP_SCORING: "scoring",
}
REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class Moment:
    """When in a run weights are measured."""

    epoch: int
    """Epoch, from 1; 0 before the first."""

    step: int
    """Optimizer steps taken."""

    not_wanted: Callable[[], bool] = lambda: False
    """Tells whether nobody waits for the metrics any more."""

    def event(self, **kind: Any) -> event_pb2.Event:  # Any: the messages of the kinds have no common type
        """Makes an event of this moment."""
        return event_pb2.Event(epoch=self.epoch, step=self.step, **kind)


class Evaluates(Protocol):
    """Gives the result of one evaluation."""

    def evaluate(
        self, request: wire.EvaluateRequest, name: str, timeout_seconds: float, moment: Moment
    ) -> wire.EvaluationResult:
        """Returns what came out; its files are in our store."""


class PatientEvaluator:
    """The evaluator service as a run sees it. Threads may share it."""

    def __init__(
        self,
        channel: grpc.Channel,
        store: BlobStore,
        reporter: Reporter,
        stopping: Callable[[], bool],
        neighbour: BlobStore | None = None,
    ) -> None:
        """Args: the way there, our files, who hears of progress, whether the run is to stop, and its files if near."""
        self._client = EvaluatorClient(channel, store, neighbour)
        self._reporter = reporter
        self._stopping = stopping

    def evaluate(
        self, request: wire.EvaluateRequest, name: str, timeout_seconds: float, moment: Moment
    ) -> wire.EvaluationResult:
        """Returns what came out; its files are in our store.

        Args:
            request: What is asked for; its files are in our store.
            name: What the evaluation is called in the log.
            timeout_seconds: How long it may take, all attempts together.
            moment: When in the run it is.

        Raises:
            EvaluationFailedError: It cannot succeed.
            UnavailableError: It did not succeed in time.
            CancelledError: Nobody waits for it any more.

        """
        reported = 0.0

        def on_progress(progress: wire.EvaluationProgress) -> None:
            nonlocal reported
            now = time.monotonic()
            if now - reported > REPORT_SECONDS:
                reported = now
                self._reporter.emit(moment.event(evaluation_reported=_progress(progress, name)))

        def on_waiting(error: TunevaneError) -> None:
            line = log_event(f"Waiting for the evaluator: {error}", event_pb2.SEVERITY_WARNING)
            self._reporter.emit(moment.event(log_written=line.log_written))

        until, left = time.monotonic() + timeout_seconds, timeout_seconds
        while True:
            result = self._client.evaluate(
                request,
                timeout_seconds=left,
                name=name,
                on_progress=on_progress,
                on_waiting=on_waiting,
                is_over=lambda: self._stopping() or moment.not_wanted(),
            )
            try:
                self._client.read_all(result)
            except (UnavailableError, NotFoundError) as error:
                # It went away with its answer on the way, or lost its cache: asked again, it remembers or computes.
                on_waiting(error)
                left = max(until - time.monotonic(), 0.0)
            else:
                return result


def _progress(progress: wire.EvaluationProgress, name: str) -> event_pb2.EvaluationReported:
    return event_pb2.EvaluationReported(
        evaluation=name,
        activity=_ACTIVITIES.get(progress.step, "working"),
        done=progress.done,
        total=progress.total,
        items_per_second=progress.items_per_second,
    )
