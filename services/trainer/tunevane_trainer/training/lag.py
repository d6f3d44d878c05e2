"""Epochs that are trained but not decided yet: answers come in any order, conclusions are drawn in epoch order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

A = TypeVar("A")


class Pending(Generic[A]):
    """Joins answers to epochs, so that what follows depends on the lag alone and never on timing.

    The decision after epoch `e` is applied before epoch `e + lag + 1` starts: not later, because that epoch waits
    for it, and not sooner, because an early answer must not change how far training runs. Training therefore goes
    at most `lag` epochs beyond the one that a synchronous run would have ended with, and nothing is ever concluded
    about those. Used under one lock where threads share it.
    """

    def __init__(self, lag: int, decide: Callable[[int, A], bool], *, decided: int = 0) -> None:
        """Starts after an epoch.

        Args:
            lag: Epochs that may be trained while one is measured, at least 0.
            decide: Concludes from the answer of an epoch, and tells whether training ends after it. Called in
                epoch order, once per epoch.
            decided: The last epoch that has been decided.

        """
        self._lag = lag
        self._decide = decide
        self._trained = decided
        self._answers: dict[int, A] = {}
        self.decided = decided
        """The last epoch that has been decided; training ends after it where `stopped` says so."""
        self.stopped = False
        """Whether the decision of the epoch `decided` ends training."""

    @property
    def open(self) -> range:
        """Epochs that were trained and wait for their answer or their turn; none once training is to end."""
        return range(self.decided + 1, self.decided + 1 if self.stopped else self._trained + 1)

    def trained(self, epoch: int) -> None:
        """Notes that an epoch was trained, each in turn."""
        if epoch != self._trained + 1:
            raise ValueError(f"epoch {epoch} cannot follow epoch {self._trained}")
        self._trained = epoch

    def answered(self, epoch: int, answer: A) -> None:
        """Takes an answer; one that came before, or that nobody waits for, has no effect."""
        if epoch not in self.open or epoch in self._answers:
            return
        self._answers[epoch] = answer
        while not self.stopped and self.decided + 1 in self._answers:
            following = self.decided + 1
            stop = self._decide(following, self._answers.pop(following))
            self.decided, self.stopped = following, stop

    def waits(self, epoch: int) -> bool:
        """Tells whether an epoch has to wait for a decision before it may start."""
        return not self.stopped and self.decided < epoch - 1 - self._lag

    def ends_before(self, epoch: int) -> bool:
        """Tells whether training is over before an epoch, by the decisions that are applied there."""
        return self.stopped and self.decided <= epoch - 1 - self._lag
