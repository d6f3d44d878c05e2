"""Measures epochs while the next ones train: one thread stores them, others ask for their metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from tunevane.api.type.v1 import blob_pb2
from tunevane_trainer.training.lag import Decided, Pending

A = TypeVar("A")

LOOK_SECONDS = 0.2
"""How often a wait looks whether the run is to stop."""


class Background(Generic[A]):
    """What happens to an epoch after its training, away from the training thread, and when that thread has to wait."""

    def __init__(
        self,
        lag: int,
        measure: Callable[[int, blob_pb2.Bundle], A],
        decide: Callable[[int, A], bool],
        decided: Decided,
        stopping: Callable[[], bool],
    ) -> None:
        """Starts after an epoch.

        Args:
            lag: Epochs that may be trained while one is measured, at least 1.
            measure: Gives the answer for an epoch's weights; may take as long as it needs.
            decide: Concludes from an epoch's answer, and tells whether training ends after it; called in epoch
                order by one thread at a time.
            decided: What earlier workers of the run have concluded.
            stopping: Tells whether the run is to stop.

        """
        self.lag = lag
        self._measure = measure
        self._stopping = stopping
        self._pending = Pending(decide, decided)
        self._joining = threading.Lock()
        self._news = threading.Condition()
        self._failure: BaseException | None = None
        self._closed = False
        self._aside = 0
        # One writer keeps the epochs in order; as many may be measured at a time as may be waited for.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._askers = ThreadPoolExecutor(lag + 1, thread_name_prefix="measure")

    @property
    def decided(self) -> Decided:
        """How far decisions have come; they may be ahead of what training may know yet."""
        return self._pending.decided

    @property
    def over(self) -> bool:
        """Tells whether nothing that is still under way will be waited for."""
        return self._closed or self._failure is not None or self.decided.stopped

    def submit(self, epoch: int, store: Callable[[], blob_pb2.Bundle]) -> None:
        """Hands over an epoch that was trained.

        Args:
            epoch: Each in turn.
            store: Stores and commits it, and returns its weights.

        """
        self._pending.trained(epoch)
        self._writer.submit(self._guarded, lambda: self._ask(epoch, store()))

    def resubmit(self, epoch: int, weights: blob_pb2.Bundle) -> None:
        """Hands over an epoch that an earlier worker stored and that was not decided."""
        self._pending.trained(epoch)
        self._ask(epoch, weights)

    def aside(self, store: Callable[[], blob_pb2.Bundle], measure: Callable[[blob_pb2.Bundle], None]) -> None:
        """Hands over weights that are measured for the record, and that nothing is concluded from."""
        with self._news:
            self._aside += 1

        def ask(weights: blob_pb2.Bundle) -> None:
            try:
                measure(weights)
            finally:
                with self._news:
                    self._aside -= 1

        def write() -> None:
            weights = store()
            self._askers.submit(self._guarded, lambda: ask(weights))

        self._writer.submit(self._guarded, write)

    def _ask(self, epoch: int, weights: blob_pb2.Bundle) -> None:
        def ask() -> None:
            if self.over:
                return
            answer = self._measure(epoch, weights)
            with self._joining:
                self._pending.answered(epoch, answer)

        self._askers.submit(self._guarded, ask)

    def _guarded(self, work: Callable[[], None]) -> None:
        # Epochs beyond the one that training ends with are stored like all others: a history does not depend on when
        # an answer came. They are not measured.
        if self._failure is None and not self._closed:
            try:
                work()
            except BaseException as error:
                # What happens to an epoch that nobody waits for any more is no failure.
                if not self.over:
                    self._failure = error
        with self._news:
            self._news.notify_all()

    def wait(self, epoch: int) -> bool:
        """Waits until an epoch may start, or the run is to stop.

        Returns:
            Whether the epoch is trained, by the decisions that are applied there.

        Raises:
            Exception: What went wrong with an earlier epoch.

        """
        self._wait_until(lambda: not self.decided.waits(epoch, self.lag))
        return not self.decided.ends_before(epoch, self.lag)

    def drain(self, epoch: int) -> None:
        """Waits, after the last epoch that was trained, until nothing is left to be done, or the run is to stop."""
        self._wait_until(lambda: self.decided.covers(epoch) and (self._aside == 0 or self.decided.stopped))
        self.close()

    def _wait_until(self, come: Callable[[], bool]) -> None:
        with self._news:
            while not (come() or self._failure is not None or self._stopping()):
                self._news.wait(LOOK_SECONDS)
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raises what went wrong, if anything did."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Waits for the epochs that are to be stored, and drops the rest."""
        self._writer.shutdown(wait=True)
        self._closed = True
        self._askers.shutdown(wait=True, cancel_futures=True)
