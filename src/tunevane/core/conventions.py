"""Early stopping and best-checkpoint selection as other libraries decide, as pure state machines like our own.

What they do is told by their sources: Keras 3.15, Lightning 2.6 and transformers 5.24, whose own classes are the
oracles of the tests. They compare in single precision (transformers excepted), these in double.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from tunevane.core.decisions import (
    UNMEASURED,
    BestModelRule,
    BestModelState,
    Conclusion,
    EarlyStoppingRule,
    EarlyStoppingState,
    figure,
)
from tunevane.core.monitor import Mode, improves, worst

Convention = Literal["tunevane", "keras", "lightning", "transformers"]


class StopsEarly(Protocol):
    """A rule that ends training."""

    def step(
        self, state: EarlyStoppingState, value: float | None, train_loss: float | None
    ) -> tuple[EarlyStoppingState, Conclusion]:
        """Takes one epoch's value; None when nothing measured it."""

    def patience_left(self, state: EarlyStoppingState) -> int:
        """Counts the epochs that may still pass without improvement."""


class Selects(Protocol):
    """A rule that says which epoch is the best."""

    def step(self, state: BestModelState, epoch: int, value: float | None) -> tuple[BestModelState, Conclusion]:
        """Takes one epoch's value; None when nothing measured it."""


@dataclass(frozen=True)
class _Peer:
    """What the rules of others have in common."""

    mode: Mode
    """Which way is better."""

    patience: int
    """Epochs in a row without improvement after which training stops."""

    min_delta: float = 0.0
    """An improvement has to be larger than this."""

    def patience_left(self, state: EarlyStoppingState) -> int:
        """Counts the epochs that may still pass without improvement."""
        return max(self.patience - state.wait, 0)

    def _waited(self, state: EarlyStoppingState) -> tuple[EarlyStoppingState, Conclusion]:
        waited = replace(state, wait=state.wait + 1)
        if waited.wait >= self.patience:
            return waited, Conclusion("stop", f"Training is stopping, no improvement for {waited.wait} epochs")
        return waited, Conclusion("not_improved", "")


@dataclass(frozen=True)
class KerasStopping(_Peer):
    """`keras.callbacks.EarlyStopping`.

    The first value is always an improvement, even NaN, and nothing improves on NaN. With a baseline the best still
    moves; a new best that does not beat the baseline goes on counting, but cannot stop training itself.
    """

    baseline: float | None = None
    """When given, only a new best that beats this, too, starts the count anew."""

    def step(
        self, state: EarlyStoppingState, value: float | None, train_loss: float | None
    ) -> tuple[EarlyStoppingState, Conclusion]:
        """Takes one epoch's value."""
        if value is None:
            return state, UNMEASURED
        if state.best is None or improves(value, state.best, self.mode, self.min_delta):
            if self.baseline is None or improves(value, self.baseline, self.mode, self.min_delta):
                return EarlyStoppingState(value), Conclusion("improved", "")
            return EarlyStoppingState(value, state.wait + 1), Conclusion("not_improved", "")
        return self._waited(state)


@dataclass(frozen=True)
class LightningStopping(_Peer):
    """`lightning.pytorch.callbacks.EarlyStopping`."""

    check_finite: bool = True
    """Stops at once when the monitored value is not finite."""

    def step(
        self, state: EarlyStoppingState, value: float | None, train_loss: float | None
    ) -> tuple[EarlyStoppingState, Conclusion]:
        """Takes one epoch's value."""
        if value is None:
            return state, UNMEASURED
        if self.check_finite and not math.isfinite(value):
            return state, Conclusion("stop", f"Training is stopping, the monitored value is {value}")
        best = worst(self.mode) if state.best is None else state.best
        if improves(value, best, self.mode, self.min_delta):
            return EarlyStoppingState(value), Conclusion("improved", "")
        return self._waited(state)


@dataclass(frozen=True)
class TransformersStopping(_Peer):
    """`transformers.EarlyStoppingCallback`, with the best value that `transformers.Trainer` keeps for it.

    The best moves with any improvement, but only one by more than `min_delta` starts the count anew: many small
    steps do not. The first evaluation counts as an improvement, whatever it gave. With a patience of 0 every
    evaluation ends training.
    """

    def step(
        self, state: EarlyStoppingState, value: float | None, train_loss: float | None
    ) -> tuple[EarlyStoppingState, Conclusion]:
        """Takes one epoch's value."""
        if value is None:
            return state, UNMEASURED
        better = improves(value, worst(self.mode) if state.best is None else state.best, self.mode)
        enough = state.best is None or (better and abs(value - state.best) > self.min_delta)
        kept = worst(self.mode) if state.best is None else state.best
        after = EarlyStoppingState(value if better else kept, 0 if enough else state.wait + 1)
        if after.wait >= self.patience:
            return after, Conclusion("stop", f"Training is stopping, no improvement for {after.wait} epochs")
        return after, Conclusion("improved" if enough else "not_improved", "")


@dataclass(frozen=True)
class FirstQualifies:
    """Selection that holds the first epoch whatever its value: Keras' and Lightning's `ModelCheckpoint`.

    Keras keeps a NaN that came first for ever. Lightning takes it for the worst value there is.
    """

    mode: Mode
    """Which way is better."""

    nan_stays: bool
    """Whether a first NaN is never replaced."""

    def step(self, state: BestModelState, epoch: int, value: float | None) -> tuple[BestModelState, Conclusion]:
        """Takes one epoch's value."""
        if value is None:
            return state, UNMEASURED
        if state.best is None:
            first = worst(self.mode) if math.isnan(value) and not self.nan_stays else value
            reason = f"Model improved from {worst(self.mode)} to {figure(value)}!"
            return BestModelState(first, epoch), Conclusion("improved", reason)
        if improves(value, state.best, self.mode):
            reason = f"Model improved from {figure(state.best)} to {figure(value)}!"
            return BestModelState(value, epoch), Conclusion("improved", reason)
        return state, Conclusion("not_improved", "Model did not improve")


def stopping(
    convention: Convention,
    mode: Mode,
    patience: int,
    min_delta: float = 0.0,
    baseline: float | None = None,
    *,
    check_finite: bool = True,
) -> StopsEarly:
    """Returns the rule of a library for early stopping; options that it does not have are not looked at."""
    if convention == "keras":
        return KerasStopping(mode, patience, min_delta, baseline)
    if convention == "lightning":
        return LightningStopping(mode, patience, min_delta, check_finite)
    if convention == "transformers":
        return TransformersStopping(mode, patience, min_delta)
    return EarlyStoppingRule(mode, patience, min_delta, baseline, check_finite)


def selecting(convention: Convention, mode: Mode, min_delta: float = 0.0) -> Selects:
    """Returns the rule of a library for the best checkpoint; `min_delta` is our own option."""
    if convention in ("keras", "lightning"):
        return FirstQualifies(mode, nan_stays=convention == "keras")
    return BestModelRule(mode, min_delta)
