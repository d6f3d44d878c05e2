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
from tunevane.core.conventions import Convention, StopsEarly, stopping
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

    convention: Convention = "tunevane"
    """Whose rule decides: our own, or that of another library to the letter (`like_keras` and the like set it). For
    `lightning`, `check_finite` is about the monitored value."""

    minimum_delta: InitVar[float | None] = None
    """The name of `min_delta` in earlier systems; accepted with a warning."""

    def __post_init__(self, minimum_delta: float | None) -> None:
        if minimum_delta is not None:
            warnings.warn("minimum_delta is called min_delta now", FutureWarning, stacklevel=3)
            object.__setattr__(self, "min_delta", minimum_delta)

    @classmethod
    def like_keras(
        cls,
        monitor: str = "val_loss",
        *,
        min_delta: float = 0.0,
        patience: int = 0,
        mode: Literal["auto", "min", "max"] = "auto",
        baseline: float | None = None,
    ) -> EarlyStopping:
        """Decides as `keras.callbacks.EarlyStopping` does, with its names and defaults; 0 patience is as 1."""
        return cls(monitor, mode, patience, abs(min_delta), baseline, check_finite=False, convention="keras")

    @classmethod
    def like_lightning(
        cls,
        monitor: str,
        *,
        min_delta: float = 0.0,
        patience: int = 3,
        mode: Literal["auto", "min", "max"] = "min",
        check_finite: bool = True,
    ) -> EarlyStopping:
        """Decides as `lightning.pytorch.callbacks.EarlyStopping` does, with its names and defaults."""
        return cls(monitor, mode, patience, min_delta, check_finite=check_finite, convention="lightning")

    @classmethod
    def like_transformers(
        cls,
        monitor: str = "val_loss",
        *,
        early_stopping_patience: int = 1,
        early_stopping_threshold: float = 0.0,
        mode: Literal["auto", "min", "max"] = "auto",
    ) -> EarlyStopping:
        """Decides as `transformers.EarlyStoppingCallback` does, with its names and defaults."""
        patience, threshold = early_stopping_patience, early_stopping_threshold
        return cls(monitor, mode, patience, threshold, check_finite=False, convention="transformers")

    @property
    def key(self) -> str:
        """Names this callback within a run."""
        return f"{self.name}/{self.monitor}"

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        least = 1 if self.convention == "tunevane" else 0
        if self.patience < least:
            yield Problem("patience", f"must be at least {least}, not {self.patience}")
        if not (math.isfinite(self.min_delta) and self.min_delta >= 0):
            yield Problem("min_delta", f"must be finite and at least 0, not {self.min_delta}")
        if self.baseline is not None and math.isnan(self.baseline):
            yield Problem("baseline", "must be a number, not nan")
        if self.baseline is not None and self.convention in ("lightning", "transformers"):
            yield Problem("baseline", f"is nothing that {self.convention} has; leave it out, or use convention='keras'")
        yield from confidence_problems(self.confidence)
        if self.confidence is not None and self.convention != "tunevane":
            yield Problem("confidence", f"is nothing that {self.convention} has; leave out one of the two")

    def rule(self, metric: str) -> StopsEarly:
        """Returns the state machine for a metric by full name."""
        mode = direction(metric) if self.mode == "auto" else self.mode
        return stopping(
            self.convention, mode, self.patience, self.min_delta, self.baseline, check_finite=self.check_finite
        )

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
        assert isinstance(rule, EarlyStoppingRule)  # the only convention that goes with a confidence
        confident = ConfidentStopping(rule, self.confidence)
        learned, conclusion, evidence = confident.step(known, values, train_loss)
        left = confident.patience_left(learned)
        decision = Decision(self.key, conclusion.verdict, conclusion.reason, metric, value, left, evidence)
        return learned.to_json(), decision
