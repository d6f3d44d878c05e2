"""Early stopping and best-checkpoint selection as pure state machines.

A rule is configuration, a state is what it remembers between epochs; `step` maps a state and this
epoch's value to the next state and what was concluded. States are plain JSON values, so that a
checkpoint can carry them and a resumed run decides as if it had never been cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from tunevane.core.monitor import Mode, improves, worst

Verdict = Literal["improved", "not_improved", "stop", "unmeasured"]


@dataclass(frozen=True)
class Conclusion:
    """What a rule makes of an epoch."""

    verdict: Verdict
    """`stop` ends training after this epoch; `unmeasured` means that there was no value to look at."""

    reason: str
    """The sentence a person reads; empty when there is nothing to say."""


UNMEASURED = Conclusion("unmeasured", "The monitored metric was not measured this epoch")


@dataclass(frozen=True)
class EarlyStoppingState:
    """What early stopping remembers."""

    best: float | None = None
    """Best value so far; None before the first improvement."""

    wait: int = 0
    """Epochs in a row without improvement."""


@dataclass(frozen=True)
class EarlyStoppingRule:
    """Stops after `patience` epochs in a row without improvement."""

    mode: Mode
    """Which way is better."""

    patience: int = 2
    """Epochs in a row without improvement after which training stops."""

    min_delta: float = 0.0
    """An improvement has to be larger than this."""

    baseline: float | None = None
    """When given, a value improves iff it beats this; it never moves. None compares with the best so far."""

    check_finite: bool = True
    """Stops at once when the training loss is not finite."""

    def step(
        self, state: EarlyStoppingState, value: float | None, train_loss: float | None
    ) -> tuple[EarlyStoppingState, Conclusion]:
        """Takes one epoch's value.

        Args:
            state: What was remembered.
            value: The monitored value; None when nothing measured it this epoch.
            train_loss: Mean training loss of the epoch, for `check_finite`.

        """
        if self.check_finite and train_loss is not None and not math.isfinite(train_loss):
            return state, Conclusion("stop", f"Training is stopping, the training loss is {train_loss}")
        if value is None:
            return state, UNMEASURED
        reference = self.baseline
        if reference is None:
            reference = worst(self.mode) if state.best is None else state.best
        if improves(value, reference, self.mode, self.min_delta):
            return EarlyStoppingState(best=value), Conclusion("improved", "")
        waited = replace(state, wait=state.wait + 1)
        if waited.wait >= self.patience:
            return waited, Conclusion("stop", f"Training is stopping, no improvement for {self.patience} epochs")
        return waited, Conclusion("not_improved", "")

    def patience_left(self, state: EarlyStoppingState) -> int:
        """Counts the epochs that may still pass without improvement."""
        return max(self.patience - state.wait, 0)


@dataclass(frozen=True)
class BestModelState:
    """What best-checkpoint selection remembers."""

    best: float | None = None
    """Best value so far; None while nothing has qualified."""

    epoch: int = 0
    """The epoch that gave it; 0 while nothing has qualified."""


@dataclass(frozen=True)
class BestModelRule:
    """Keeps the first of the best models: strict comparison, ties keep the earlier, NaN never wins."""

    mode: Mode
    """Which way is better."""

    min_delta: float = 0.0
    """An improvement has to be larger than this."""

    def step(self, state: BestModelState, epoch: int, value: float | None) -> tuple[BestModelState, Conclusion]:
        """Takes one epoch's value; None when nothing measured it."""
        if value is None:
            return state, UNMEASURED
        reference = worst(self.mode) if state.best is None else state.best
        if improves(value, reference, self.mode, self.min_delta):
            reason = f"Model improved from {figure(reference)} to {figure(value)}!"
            return BestModelState(value, epoch), Conclusion("improved", reason)
        return state, Conclusion("not_improved", "Model did not improve")


def figure(value: float) -> str:
    """Writes a value with three decimals."""
    return f"{value:.3f}" if math.isfinite(value) else str(value)
