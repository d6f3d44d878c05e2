"""TrainingCheckpoint: how many epochs stay resumable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from tunevane.callback.base import Callback
from tunevane.errors import Problem


@dataclass(frozen=True)
class TrainingCheckpoint(Callback):
    """Keeps weights, optimizer and callback state of the last epochs.

    The last epoch is always kept, because a run resumes from it; this callback keeps more. Random state
    needs no storing: every epoch draws from the run's seed and its own number.
    """

    name: ClassVar[str] = "training-checkpoint"

    last_k_epochs: int = 1
    """Epochs to keep, counted from the last."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        if self.last_k_epochs < 1:
            yield Problem("last_k_epochs", f"must be at least 1, not {self.last_k_epochs}")
