"""Epochs that are trained but not decided yet: answers come in any order, conclusions are drawn in epoch order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

A = TypeVar("A")


@dataclass(frozen=True)
class Decided:
    """How far the decisions of a run have come."""

    epoch: int = 0
    """The last epoch that has been decided."""

    stopped: bool = False
    """Whether training ends after it."""

    def waits(self, epoch: int, lag: int) -> bool:
        """Tells whether an epoch has to wait for a decision before it may start."""
        return not self.stopped and self.epoch < epoch - 1 - lag

    def ends_before(self, epoch: int, lag: int) -> bool:
        """Tells whether training is over before an epoch, by the decisions that are applied there."""
        return self.stopped and self.epoch <= epoch - 1 - lag

    def covers(self, epoch: int) -> bool:
        """Tells whether nothing is left to be decided once training has ended with an epoch."""
        return self.stopped or self.epoch >= epoch


class Pending(Generic[A]):
    """Joins answers to epochs, so that what follows depends on the lag alone and never on timing.

    The decision after epoch `e` is applied before epoch `e + lag + 1` starts: not later, because that epoch waits
    for it, and not sooner, because an early answer must not change how far training runs. Training therefore goes
    at most `lag` epochs beyond the one that a synchronous run would have ended with, and nothing is ever concluded
    about those.

    One thread may call `trained` and read `decided` while another calls `answered`; `answered` is called by one
    thread at a time.
    """

    def __init__(self, decide: Callable[[int, A], bool], decided: Decided) -> None:
        """Starts after an epoch.

        Args:
            decide: Concludes from the answer of an epoch, and tells whether training ends after it. Called in
                epoch order, once per epoch.
            decided: What earlier workers of the run have concluded.

        """
        self._decide = decide
        self._trained = decided.epoch
        self._answers: dict[int, A] = {}
        self.decided = decided
        """How far it has come; replaced as a whole."""

    @property
    def open(self) -> range:
        """Epochs that were trained and wait for their answer or their turn; none once training is to end."""
        first = self.decided.epoch + 1
        return range(first, first if self.decided.stopped else self._trained + 1)

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
        while not self.decided.stopped and self.decided.epoch + 1 in self._answers:
            following = self.decided.epoch + 1
            self.decided = Decided(following, self._decide(following, self._answers.pop(following)))
