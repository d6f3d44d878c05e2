"""The evaluator as its callers see it: sends what is missing, asks, and keeps asking while it is away."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.api.evaluator.v1 import evaluator_service_pb2_grpc
from tunevane.api.type.v1 import blob_pb2
from tunevane.core import bundles
from tunevane.errors import (
    BlobsMissingError,
    CancelledError,
    DeadlineExceededError,
    ResourceExhaustedError,
    StorageFullError,
    TunevaneError,
    UnavailableError,
)
from tunevane.rpc.blob_client import BlobClient
from tunevane.rpc.channel import connect
from tunevane.storage.blobs import BlobStore
from tunevane.storage.sharing import share

OnProgress = Callable[[wire.EvaluationProgress], None]
"""Hears how far an evaluation is, in the thread that asked."""

OnWaiting = Callable[[TunevaneError], None]
"""Hears, at most once a minute, why there is no answer yet."""

IsOver = Callable[[], bool]
"""Tells whether nobody waits for the result any more."""

_TELL_SECONDS = 60.0
_LOOK_SECONDS = 0.2
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


def refs(request: wire.EvaluateRequest) -> list[blob_pb2.BlobRef]:
    """Lists the files that an evaluation reads."""
    plan = request.plan
    found = [*bundles.refs(request.checkpoint), *bundles.refs(request.blends.pretrained)]
    found += [*bundles.refs(plan.query_data), *bundles.refs(plan.index_data)]
    for name in sorted(request.model.attachments):
        found.extend(bundles.refs(request.model.attachments[name]))
    return found


class EvaluatorClient:
    """An evaluator service. Threads may share it."""

    def __init__(self, target: str | grpc.Channel, store: BlobStore, neighbour: BlobStore | None = None) -> None:
        """Opens the channel.

        Args:
            target: Address, for example `127.0.0.1:50052`, or an open channel.
            store: Holds the files of requests, and gets those of results.
            neighbour: The evaluator's own store, where it is on a disk of ours: its files and ours become the same
                ones, and nothing is sent. None where it is out of reach.

        """
        self.store = store
        self._neighbour = neighbour
        channel = connect(target) if isinstance(target, str) else target
        self.blobs = BlobClient(channel)
        self._stub = evaluator_service_pb2_grpc.EvaluatorServiceStub(channel)

    def evaluate(
        self,
        request: wire.EvaluateRequest,
        *,
        timeout_seconds: float = 3600.0,
        name: str = "",
        on_progress: OnProgress | None = None,
        on_waiting: OnWaiting | None = None,
        is_over: IsOver = lambda: False,
    ) -> wire.EvaluationResult:
        """Evaluates, again after every break.

        Args:
            request: What to measure; its files are in the store.
            timeout_seconds: For everything, repeats included.
            name: What people call it; empty where there is only one.
            on_progress: Hears how far it is.
            on_waiting: Hears why it takes so long.
            is_over: Tells whether nobody waits for the result any more; asked several times a second.

        Raises:
            CancelledError: Nobody waits any more.
            EvaluationFailedError: The evaluation cannot succeed, however often it is tried.
            InvalidRequestError: The request cannot work.
            UnavailableError: There was no result in time.

        """
        until = time.monotonic() + timeout_seconds
        pause, told = _FIRST_PAUSE_SECONDS, time.monotonic() - _TELL_SECONDS
        while True:
            try:
                return self._once(request, until, on_progress, is_over)
            except BlobsMissingError:
                # It lost its cache, or has not seen these files yet: the next attempt sends them.
                continue
            except StorageFullError:
                raise
            except (UnavailableError, DeadlineExceededError, ResourceExhaustedError) as error:
                left = until - time.monotonic()
                if left <= 0:
                    what = f"the evaluation '{name}'" if name else "the evaluation"
                    raise UnavailableError(
                        f"{what} did not succeed within {timeout_seconds:g} seconds: {error}"
                    ) from error
                if on_waiting is not None and time.monotonic() - told >= _TELL_SECONDS:
                    told = time.monotonic()
                    on_waiting(error)
                asked = float(error.details.get("retry_after_seconds", 0))
                # Randomness only spreads the repeats of many callers.
                _pause(min(max(pause, asked) * random.uniform(0.8, 1.2), left), is_over)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _once(
        self, request: wire.EvaluateRequest, until: float, on_progress: OnProgress | None, is_over: IsOver
    ) -> wire.EvaluationResult:
        needed = refs(request)
        # Weights that nothing refers to yet are kept only because they are used.
        self.store.touch(needed)
        _check(is_over)
        if self._neighbour is not None:
            share(self.store, self._neighbour, needed)
        self.blobs.push(self.store, needed)
        touched = time.monotonic()
        call = self._stub.Evaluate(request, timeout=max(until - time.monotonic(), 1.0))
        with _cancelled_when_over(call, is_over):
            for response in call:
                if response.HasField("result"):
                    return response.result
                if time.monotonic() - touched > _TELL_SECONDS:
                    touched = time.monotonic()
                    self.store.touch(needed)
                if on_progress is not None:
                    on_progress(response.progress)
        _check(is_over)
        raise UnavailableError("the evaluator ended the call without a result")

    def read_all(self, result: wire.EvaluationResult) -> None:
        """Gets the files of a result into the store: values by query, and examples where there are some."""
        named = [getattr(result, name) for name in ("per_query", "examples") if result.HasField(name)]
        self.blobs.fetch(named, self.store)

    def read(self, ref: blob_pb2.BlobRef) -> bytes:
        """Returns a file of a result."""
        if self._neighbour is not None:
            share(self._neighbour, self.store, [ref])
        self.blobs.fetch([ref], self.store)
        return self.store.read(ref)


def _check(is_over: IsOver) -> None:
    if is_over():
        raise CancelledError("nobody waits for the evaluation any more")


def _pause(seconds: float, is_over: IsOver) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        _check(is_over)
        time.sleep(min(left, _LOOK_SECONDS))


@contextmanager
def _cancelled_when_over(call: grpc.Call, is_over: IsOver) -> Iterator[None]:
    """Cancels a call once nobody waits for it, also while it says nothing."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_SECONDS):
            if is_over():
                call.cancel()
                return

    watcher = threading.Thread(target=watch, name="wanted", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
