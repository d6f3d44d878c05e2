"""BestModelCheckpoint: the artifact holds the best epoch's weights instead of the last."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

from tunevane.callback.base import Callback, Decision, State
from tunevane.core.decisions import BestModelRule, BestModelState
from tunevane.core.monitor import direction
from tunevane.errors import Problem


@dataclass(frozen=True)
class BestModelCheckpoint(Callback):
    """Keeps the weights of the best epoch; ties keep the earlier, NaN never wins."""

    name: ClassVar[str] = "best-model-checkpoint"

    monitor: str = "val_loss"
    """Metric to watch: a full name or an unambiguous suffix of it."""

    mode: Literal["auto", "min", "max"] = "auto"
    """Which way is better; auto takes the metric's own direction."""

    min_delta: float = 0.0
    """An improvement has to be larger than this."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        if not (math.isfinite(self.min_delta) and self.min_delta >= 0):
            yield Problem("min_delta", f"must be finite and at least 0, not {self.min_delta}")

    def rule(self, metric: str) -> BestModelRule:
        """Returns the state machine for a metric by full name."""
        return BestModelRule(direction(metric) if self.mode == "auto" else self.mode, self.min_delta)

    def initial(self) -> State:
        """Returns what is remembered before the first epoch."""
        return asdict(BestModelState())

    def decide(self, state: State, epoch: int, measured: Mapping[str, float], metric: str) -> tuple[State, Decision]:
        """Takes the finished metrics of an epoch."""
        value = measured.get(metric)
        before = BestModelState(**state)  # type: ignore[arg-type]  # JSON of the same class
        after, conclusion = self.rule(metric).step(before, epoch, value)
        return asdict(after), Decision(self.key, conclusion.verdict, conclusion.reason, metric, value)

    @staticmethod
    def best_epoch(state: State) -> int:
        """Returns the epoch that is best so far; 0 while none has qualified."""
        return BestModelState(**state).epoch  # type: ignore[arg-type]  # JSON of the same class
