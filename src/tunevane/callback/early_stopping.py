"""EarlyStopping: ends training when a metric no longer improves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import InitVar, asdict, dataclass
from typing import ClassVar, Literal

from tunevane.callback.base import Callback, Decision, Measurements, State
from tunevane.callback.noise import confidence_problems, values_by_query
from tunevane.core.confidence import ConfidentStopping, ConfidentStoppingState
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

    confidence: float | None = None
    """When given, for example 0.95: training goes on for up to `patience` more epochs while it is not as sure as this
    that the best epoch has passed, and `improved` means proven at this level by a paired bootstrap over queries."""

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
        yield from confidence_problems(self.confidence)

    def rule(self, metric: str) -> EarlyStoppingRule:
        """Returns the state machine for a metric by full name."""
        mode = direction(metric) if self.mode == "auto" else self.mode
        return EarlyStoppingRule(mode, self.patience, self.min_delta, self.baseline, self.check_finite)

    def initial(self) -> State:
        """Returns what is remembered before the first epoch."""
        return asdict(EarlyStoppingState()) if self.confidence is None else ConfidentStoppingState().to_json()

    def decide(self, state: State, epoch: int, measured: Measurements, metric: str) -> tuple[State, Decision]:
        """Takes the finished metrics of an epoch."""
        rule = self.rule(metric)
        value, train_loss = measured.get(metric), measured.get("train_loss")
        if self.confidence is None:
            after, conclusion = rule.step(EarlyStoppingState(**state), value, train_loss)  # type: ignore[arg-type]  # JSON of the same class
            left = rule.patience_left(after)
            return asdict(after), Decision(self.key, conclusion.verdict, conclusion.reason, metric, value, left)
        known = ConfidentStoppingState.from_json(state)
        values = values_by_query(measured, metric, epoch)
        if values is None:
            _, conclusion = rule.step(known.plain, None, train_loss)
            left = rule.patience_left(known.plain)
            return state, Decision(self.key, conclusion.verdict, conclusion.reason, metric, value, left)
        confident = ConfidentStopping(rule, self.confidence)
        learned, conclusion, evidence = confident.step(known, values, train_loss)
        left = confident.patience_left(learned)
        decision = Decision(self.key, conclusion.verdict, conclusion.reason, metric, value, left, evidence)
        return learned.to_json(), decision
