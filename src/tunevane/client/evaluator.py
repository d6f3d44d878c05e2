"""The evaluator as its callers see it: sends what is missing, asks, and keeps asking while it is away."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator

import grpc

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.evaluator.v1 import evaluator_service_pb2_grpc
from tunevane.api.type.v1 import blob_pb2
from tunevane.core import bundles
from tunevane.errors import (
    BlobsMissingError,
    CancelledError,
    ResourceExhaustedError,
    StorageFullError,
    TunevaneError,
    UnavailableError,
)
from tunevane.rpc.blob_client import BlobClient
from tunevane.rpc.channel import connect
from tunevane.storage.blobs import BlobStore

OnProgress = Callable[[wire.EvaluationProgress], None]
"""Hears how far an evaluation is, in the thread that asked."""

OnWaiting = Callable[[TunevaneError], None]
"""Hears, at most once a minute, why there is no answer yet."""

_TELL_SECONDS = 60.0


def refs(request: wire.EvaluateRequest) -> list[blob_pb2.BlobRef]:
    """Lists the files that an evaluation reads."""
    plan = request.plan
    found = [*bundles.refs(request.checkpoint), *bundles.refs(plan.query_data), *bundles.refs(plan.index_data)]
    for name in sorted(request.model.attachments):
        found.extend(bundles.refs(request.model.attachments[name]))
    return found


class EvaluatorClient:
    """An evaluator service. Threads may share it."""

    def __init__(self, target: str, store: BlobStore, channel: grpc.Channel | None = None) -> None:
        """Opens the channel.

        Args:
            target: Address, for example `127.0.0.1:50052`.
            store: Holds the files of requests, and gets those of results.
            channel: An open channel to the target; None opens one.

        """
        self.target = target
        self.store = store
        channel = connect(target) if channel is None else channel
        self.blobs = BlobClient(channel)
        self._stub = evaluator_service_pb2_grpc.EvaluatorServiceStub(channel)

    def evaluate(
        self,
        request: wire.EvaluateRequest,
        *,
        timeout_seconds: float = 3600.0,
        on_progress: OnProgress | None = None,
        on_waiting: OnWaiting | None = None,
        stopping: threading.Event | None = None,
    ) -> wire.EvaluationResult:
        """Evaluates, again after every break.

        Args:
            request: What to measure; its files are in the store.
            timeout_seconds: For everything, repeats included.
            on_progress: Hears how far it is.
            on_waiting: Hears why it takes so long.
            stopping: Ends the call when set.

        Raises:
            CancelledError: `stopping` was set.
            EvaluationFailedError: The evaluation cannot succeed, however often it is tried.
            InvalidRequestError: The request cannot work.
            UnavailableError: There was no answer in time.

        """
        stop = threading.Event() if stopping is None else stopping
        until = time.monotonic() + timeout_seconds
        pause, told = 0.2, -_TELL_SECONDS
        while True:
            try:
                return self._once(request, until, on_progress, stop)
            except BlobsMissingError:
                # It lost its cache, or has not seen these files yet: the next attempt sends them.
                continue
            except StorageFullError:
                raise
            except (UnavailableError, ResourceExhaustedError) as error:
                now = time.monotonic()
                if now >= until:
                    raise UnavailableError(
                        f"the evaluator at {self.target} gave no result within {timeout_seconds:g} seconds: {error}"
                    ) from error
                if on_waiting is not None and now - told >= _TELL_SECONDS:
                    told = now
                    on_waiting(error)
                # Randomness only spreads the repeats of many callers.
                wait = max(pause, float(error.details.get("retry_after_seconds", 0))) * random.uniform(0.8, 1.2)
                if stop.wait(min(wait, max(until - now, 0.0))):
                    raise CancelledError("the evaluation was called off") from None
                pause = min(pause * 2, 5.0)

    def _once(
        self, request: wire.EvaluateRequest, until: float, on_progress: OnProgress | None, stop: threading.Event
    ) -> wire.EvaluationResult:
        self.blobs.push(self.store, refs(request))
        responses = self._stub.Evaluate(request, timeout=max(until - time.monotonic(), 1.0))
        for response in _until_stopped(responses, stop):
            if response.HasField("result"):
                return response.result
            if on_progress is not None:
                on_progress(response.progress)
        raise UnavailableError("the evaluator ended the call without a result")

    def read(self, ref: blob_pb2.BlobRef) -> bytes:
        """Returns a file of a result."""
        self.blobs.fetch([ref], self.store)
        return self.store.read(ref)


def _until_stopped(responses: object, stop: threading.Event) -> Iterator[wire.EvaluateResponse]:
    for response in responses:  # type: ignore[attr-defined]  # grpc's call is an iterator of responses
        if stop.is_set():
            responses.cancel()  # type: ignore[attr-defined]  # and can be cancelled
            raise CancelledError("the evaluation was called off")
        yield response
