"""Asks the evaluator service for one evaluation, and keeps asking while it is away."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from tunevane import log
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.evaluator.v1 import evaluator_service_pb2_grpc
from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane.core import bundles
from tunevane.errors import (
    BlobsMissingError,
    CancelledError,
    DeadlineExceededError,
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
LOOK_SECONDS = 0.2
"""How often a call under way looks whether it is still wanted."""

TELL_SECONDS = 60.0
"""How often the run's log says that the evaluator is away."""

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0


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


class PatientEvaluator:
    """The evaluator service as a run sees it. Threads may share it."""

    def __init__(
        self, channel: grpc.Channel, store: BlobStore, reporter: Reporter, stopping: Callable[[], bool]
    ) -> None:
        """Args: the way there, where the files are, who hears of progress, and whether the run is to stop."""
        self._stub = evaluator_service_pb2_grpc.EvaluatorServiceStub(channel)
        self._blobs = BlobClient(channel)
        self._store = store
        self._reporter = reporter
        self._stopping = stopping

    def evaluate(
        self, request: wire.EvaluateRequest, name: str, timeout_seconds: float, moment: Moment
    ) -> wire.EvaluationResult:
        """Returns what came out; the examples of the result are in our store.

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
        until = time.monotonic() + timeout_seconds
        pause, told = FIRST_PAUSE_SECONDS, time.monotonic() - TELL_SECONDS
        while True:
            try:
                return self._once(request, name, until, moment)
            except BlobsMissingError:
                # It lost its cache, or has not seen these files yet: the next attempt sends them.
                continue
            except StorageFullError:
                raise
            except (UnavailableError, DeadlineExceededError, ResourceExhaustedError) as error:
                left = until - time.monotonic()
                if left <= 0:
                    raise UnavailableError(
                        f"the evaluation '{name}' did not succeed within {timeout_seconds:g} seconds: {error}"
                    ) from error
                if time.monotonic() - told >= TELL_SECONDS:
                    told = time.monotonic()
                    line = log_event(f"Waiting for the evaluator: {error}", event_pb2.SEVERITY_WARNING)
                    self._reporter.emit(moment.event(log_written=line.log_written))
                asked = float(getattr(error, "details", {}).get("retry_after_seconds", 0))
                self._pause(min(max(pause, asked) * random.uniform(0.8, 1.2), left), moment)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _is_over(self, moment: Moment) -> bool:
        return self._stopping() or moment.not_wanted()

    def _check(self, moment: Moment) -> None:
        if self._is_over(moment):
            raise CancelledError("nobody waits for the evaluation any more")

    def _pause(self, seconds: float, moment: Moment) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._check(moment)
            time.sleep(min(left, LOOK_SECONDS))

    def _once(self, request: wire.EvaluateRequest, name: str, until: float, moment: Moment) -> wire.EvaluationResult:
        needed = refs(request)
        # Weights that are not committed yet are kept only because they are used.
        self._store.touch(needed)
        self._check(moment)
        self._blobs.push(self._store, needed)
        reported = 0.0
        call = self._stub.Evaluate(request, timeout=max(until - time.monotonic(), 1.0))
        with self._cancelled_when_over(call, moment):
            for response in call:
                if response.HasField("result"):
                    if response.result.HasField("examples"):
                        self._blobs.fetch([response.result.examples], self._store)
                    return response.result
                now = time.monotonic()
                if now - reported > REPORT_SECONDS:
                    reported = now
                    self._store.touch(needed)
                    self._reporter.emit(moment.event(evaluation_reported=_progress(response.progress, name)))
        self._check(moment)
        raise UnavailableError("the evaluator ended the call without a result")

    @contextmanager
    def _cancelled_when_over(self, call: grpc.Call, moment: Moment) -> Iterator[None]:
        """Cancels a call once nobody waits for it, also while it says nothing."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(LOOK_SECONDS):
                if self._is_over(moment):
                    call.cancel()
                    return

        watcher = threading.Thread(target=watch, name="wanted", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


def refs(request: wire.EvaluateRequest) -> list[blob_pb2.BlobRef]:
    """Lists the files that an evaluation reads."""
    plan = request.plan
    found = [*bundles.refs(request.checkpoint), *bundles.refs(request.blends.pretrained)]
    found += [*bundles.refs(plan.query_data), *bundles.refs(plan.index_data)]
    for attachment in sorted(request.model.attachments):
        found.extend(bundles.refs(request.model.attachments[attachment]))
    return found


def _progress(progress: wire.EvaluationProgress, name: str) -> event_pb2.EvaluationReported:
    return event_pb2.EvaluationReported(
        evaluation=name,
        activity=_ACTIVITIES.get(progress.step, "working"),
        done=progress.done,
        total=progress.total,
        items_per_second=progress.items_per_second,
    )
