"""BestModelCheckpoint: the artifact holds the best epoch's weights instead of the last."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

from tunevane.callback.base import Callback, Decision, Measurements, State
from tunevane.callback.noise import confidence_problems, values_by_query
from tunevane.core.confidence import ConfidentSelection, ConfidentSelectionState
from tunevane.core.conventions import Convention, Selects, selecting
from tunevane.core.decisions import BestModelState
from tunevane.core.monitor import Mode, direction
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

    confidence: float | None = None
    """When given, for example 0.95: the best epoch is the one with the best true quality as estimated from the values
    of every query at all epochs so far, and decisions carry an interval of this level."""

    convention: Convention = "tunevane"
    """Whose rule decides: our own, or that of another library to the letter (`like_keras` and the like set it)."""

    @classmethod
    def like_keras(
        cls, monitor: str = "val_loss", *, mode: Literal["auto", "min", "max"] = "auto"
    ) -> BestModelCheckpoint:
        """Selects as `keras.callbacks.ModelCheckpoint(save_best_only=True)` does."""
        return cls(monitor, mode, convention="keras")

    @classmethod
    def like_lightning(cls, monitor: str, *, mode: Literal["auto", "min", "max"] = "min") -> BestModelCheckpoint:
        """Selects as `lightning.pytorch.callbacks.ModelCheckpoint(save_top_k=1)` does."""
        return cls(monitor, mode, convention="lightning")

    @classmethod
    def like_transformers(
        cls, monitor: str = "val_loss", *, mode: Literal["auto", "min", "max"] = "auto"
    ) -> BestModelCheckpoint:
        """Selects as `transformers.Trainer` does with `load_best_model_at_end=True`."""
        return cls(monitor, mode, convention="transformers")

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options."""
        if not (math.isfinite(self.min_delta) and self.min_delta >= 0):
            yield Problem("min_delta", f"must be finite and at least 0, not {self.min_delta}")
        yield from confidence_problems(self.confidence)
        if self.convention != "tunevane":
            for option, given in (("min_delta", self.min_delta != 0.0), ("confidence", self.confidence is not None)):
                if given:
                    yield Problem(option, f"is nothing that {self.convention} has; leave out one of the two")

    def rule(self, metric: str) -> Selects:
        """Returns the state machine for a metric by full name."""
        return selecting(self.convention, self.direction(metric), self.min_delta)

    def direction(self, metric: str) -> Mode:
        """Tells which way is better for a metric by full name."""
        return direction(metric) if self.mode == "auto" else self.mode

    def initial(self) -> State:
        """Returns what is remembered before the first epoch."""
        return asdict(BestModelState()) if self.confidence is None else ConfidentSelectionState().to_json()

    def decide(self, state: State, epoch: int, measured: Measurements, metric: str) -> tuple[State, Decision]:
        """Takes the finished metrics of an epoch."""
        rule, value = self.rule(metric), measured.get(metric)
        if self.confidence is None:
            after, conclusion = rule.step(BestModelState(**state), epoch, value)  # type: ignore[arg-type]  # JSON of the same class
            best = after.epoch or None
            decision = Decision(self.key, conclusion.verdict, conclusion.reason, metric, value, best_epoch=best)
            return asdict(after), decision
        values = values_by_query(measured, metric, epoch)
        if values is None:
            _, conclusion = rule.step(BestModelState(), epoch, None)
            best = self.best_epoch(state) or None
            return state, Decision(self.key, conclusion.verdict, conclusion.reason, metric, value, best_epoch=best)
        confident = ConfidentSelection(self.direction(metric), self.confidence, self.min_delta)
        learned, selected = confident.step(ConfidentSelectionState.from_json(state), values)
        decision = Decision(
            self.key,
            selected.conclusion.verdict,
            selected.conclusion.reason,
            metric,
            value,
            evidence=selected.evidence,
            estimate=selected.estimate,
            best_epoch=learned.epoch,
            slot=selected.slot,
        )
        return learned.to_json(), decision

    @staticmethod
    def best_epoch(state: State) -> int:
        """Returns the epoch that is best so far; 0 while none has qualified."""
        epoch = state["epoch"]
        assert isinstance(epoch, int)  # in both kinds of state
        return epoch

    def kept_epochs(self, state: State) -> frozenset[int]:
        """Returns the epochs that may be selected at the end."""
        if self.confidence is not None:
            return frozenset(each.epoch for each in ConfidentSelectionState.from_json(state).candidates.values())
        best = self.best_epoch(state)
        return frozenset([best] if best else [])
