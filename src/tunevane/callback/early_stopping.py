"""EarlyStopping: ends training when a metric no longer improves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import InitVar, asdict, dataclass
from typing import ClassVar, Literal

from tunevane.callback.base import Callback, Decision, State
from tunevane.core.decisions import EarlyStoppingRule, EarlyStoppingState
from tunevane.core.monitor import direction
from tunevane.errors import Problem


@dataclass(frozen=True)
class EarlyStopping(Callback):
    """Stops training after `patience` epochs in a row without improvement. It saves nothing."""

    name: ClassVar[str] = "early-stopping"

    monitor: str = "val_loss"
    """Metric to watch: a full name or an unambiguous suffix of it."""

    mode: Literal["auto", "min", "max"] = "auto"
    """Which way is better; auto takes the metric's own direction."""

    patience: int = 2
    """Epochs in a row without improvement after which training stops."""

    min_delta: float = 0.0
    """An improvement has to be larger than this."""

    baseline: float | None = None
    """When given, a value improves iff it beats this; it never moves."""

    check_finite: bool = True
    """Whether a training loss that is not finite stops the run at once."""

    minimum_delta: InitVar[float | None] = None
    """The name of `min_delta` in earlier systems; accepted with a warning."""

    def __post_init__(self, minimum_delta: float | None) -> None:
        if minimum_delta is not None:
            warnings.warn("minimum_delta is called min_delta now", FutureWarning, stacklevel=3)
            object.__setattr__(self, "min_delta", minimum_delta)

    @property
    def key(self) -> str:
        """Names this callback within a run."""
        return f"{self.name}/{self.monitor}"

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        if self.patience < 1:
            yield Problem("patience", f"must be at least 1, not {self.patience}")
        if not (math.isfinite(self.min_delta) and self.min_delta >= 0):
            yield Problem("min_delta", f"must be finite and at least 0, not {self.min_delta}")
        if self.baseline is not None and math.isnan(self.baseline):
            yield Problem("baseline", "must be a number, not nan")

    def rule(self, metric: str) -> EarlyStoppingRule:
        """Returns the state machine for a metric by full name."""
        mode = direction(metric) if self.mode == "auto" else self.mode
        return EarlyStoppingRule(mode, self.patience, self.min_delta, self.baseline, self.check_finite)

    def initial(self) -> State:
        """Returns what is remembered before the first epoch."""
        return asdict(EarlyStoppingState())

    def decide(self, state: State, epoch: int, measured: Mapping[str, float], metric: str) -> tuple[State, Decision]:
        """Takes the finished metrics of an epoch."""
        rule = self.rule(metric)
        value = measured.get(metric)
        before = EarlyStoppingState(**state)  # type: ignore[arg-type]  # JSON of the same class
        after, conclusion = rule.step(before, value, measured.get("train_loss"))
        return asdict(after), Decision(
            self.key, conclusion.verdict, conclusion.reason, metric, value, rule.patience_left(after)
        )
