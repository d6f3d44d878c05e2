"""Folds the events of a run into what is shown of it. Pure: the same events give the same state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tunevane.api.type.v1.event_pb2 import (
    SEVERITY_ERROR,
    SEVERITY_WARNING,
    STAGE_AFTER,
    STAGE_BEFORE,
    STAGE_INTERVAL,
    VERDICT_IMPROVED,
    VERDICT_NOT_IMPROVED,
    VERDICT_STOP,
    Event,
)
from tunevane.api.type.v1.metric_pb2 import Interval
from tunevane_tracker.curve import Curve, Point

Status = Literal["pending", "running", "succeeded", "failed", "cancelled"]
VERDICTS: Mapping[int, str] = {VERDICT_IMPROVED: "improved", VERDICT_NOT_IMPROVED: "not improved", VERDICT_STOP: "stop"}

MAX_LINES = 400
"""Log lines kept for the page; all of them are in the journal."""


@dataclass(frozen=True)
class Epoch:
    """One epoch's training pass."""

    number: int
    """From 1."""

    step: int
    """Optimizer steps at its end."""

    train_loss: float
    """Mean training loss."""

    val_loss: float | None
    """Mean loss over the evaluation data; None without such data."""

    seconds: float
    """How long the pass took."""


@dataclass(frozen=True)
class Decision:
    """What a callback concluded."""

    epoch: int
    """Epoch that it looked at."""

    callback: str
    """The callback's key."""

    verdict: str
    """`improved`, `not improved` or `stop`; empty for a verdict that this version does not know."""

    reason: str
    """The sentence for people."""

    monitor: str
    """Metric that was looked at."""

    value: float | None
    """Its value; None when nothing measured it."""

    seconds: float = 0.0
    """When it was drawn, Unix seconds."""


@dataclass(frozen=True)
class Line:
    """A line of the run's log."""

    seconds: float
    """When it was written, Unix seconds."""

    severity: int
    """As in the contract's `Severity`."""

    text: str
    """The text."""


@dataclass
class RunState:
    """A run as its events tell it."""

    sequence: int = 0
    """Number of the last event folded in."""

    status: Status = "pending"
    """Where in its life the run is."""

    failure_reason: str = ""
    """Why it failed; empty unless it did."""

    started_seconds: float = 0.0
    """When it first started, Unix seconds; 0 before."""

    last_event_seconds: float = 0.0
    """When the newest event happened, Unix seconds."""

    restarts: int = 0
    """How often it was resumed."""

    epochs_planned: int = 0
    """Epochs planned; 0 before the start."""

    batches_per_epoch: int = 0
    """Batches planned per epoch."""

    epoch: int = 0
    """Epoch under way, from 1."""

    batch: int = 0
    """Batches done in this epoch."""

    step: int = 0
    """Optimizer steps taken."""

    train_loss: float | None = None
    """Newest training loss."""

    learning_rate: float | None = None
    """Newest learning rate of the first parameter group."""

    items_per_second: float = 0.0
    """Newest speed."""

    losses: Curve = field(default_factory=Curve)
    """Training loss by step."""

    epochs: dict[int, Epoch] = field(default_factory=dict)
    """Finished training passes by number."""

    before: dict[str, float] = field(default_factory=dict)
    """Metrics of the pre-trained model."""

    by_epoch: dict[int, dict[str, float]] = field(default_factory=dict)
    """Metrics at epoch ends."""

    within: list[tuple[int, int, dict[str, float]]] = field(default_factory=list)
    """Metrics within epochs: epoch, optimizer steps and values; thinned out when there are many."""

    after: dict[str, float] = field(default_factory=dict)
    """Metrics of the model that became the artifact."""

    intervals_by_epoch: dict[int, dict[str, Interval]] = field(default_factory=dict)
    """Intervals of the changes since before fine-tuning, at epoch ends."""

    intervals_after: dict[str, Interval] = field(default_factory=dict)
    """Intervals of the artifact's changes."""

    examples: dict[Literal["before", "after"], bytes] = field(default_factory=dict)
    """Example results to show, JSON documents."""

    decisions: list[Decision] = field(default_factory=list)
    """Conclusions, oldest first."""

    patience_left: int | None = None
    """Epochs that may still pass without improvement; None without early stopping."""

    checkpoints: dict[str, int] = field(default_factory=dict)
    """Weights stored, by reason: `resume` (with training state) or `model`."""

    artifact_epoch: int = 0
    """Epoch whose weights the artifact holds; 0 without an artifact."""

    activity: str = ""
    """What an evaluation is doing now, with numbers; empty when none is under way."""

    warnings: list[str] = field(default_factory=list)
    """Sentences about what looks wrong, each once."""

    lines: deque[Line] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    """The end of the run's log."""

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are the best so far; 0 before any."""
        if self.artifact_epoch:
            return self.artifact_epoch
        improved = [each.epoch for each in self.decisions if each.verdict == "improved"]
        return improved[-1] if improved else 0

    @property
    def val_loss(self) -> float | None:
        """Newest validation loss; None without evaluation data."""
        return self.epochs[max(self.epochs)].val_loss if self.epochs else None

    def phases(self) -> dict[str, dict[str, float]]:
        """Returns the metrics by phase: `before`, `current`, `best`, `after`; a phase not reached is empty."""
        current = self.by_epoch[max(self.by_epoch)] if self.by_epoch else {}
        return {
            "before": self.before,
            "current": current,
            "best": self.by_epoch.get(self.best_epoch, {}),
            "after": self.after,
        }


def fold(events: Iterable[Event], state: RunState | None = None) -> RunState:
    """Folds events into a new state, or further ones into `state`, which is changed and returned."""
    state = RunState() if state is None else state
    for event in events:
        apply(state, event)
    return state


def apply(state: RunState, event: Event) -> None:
    """Folds the next event in; one that was folded in before changes nothing.

    Raises:
        ValueError: Events before it are missing.

    """
    if event.sequence <= state.sequence:
        return
    if event.sequence != state.sequence + 1:
        raise ValueError(f"event {event.sequence} cannot follow event {state.sequence}")
    state.sequence = event.sequence
    state.last_event_seconds = _seconds(event)
    kind = event.WhichOneof("kind")
    # A kind that a newer trainer knows is counted and otherwise ignored.
    if kind is not None:
        _APPLY[kind](state, event, getattr(event, kind))


def _seconds(event: Event) -> float:
    return event.event_time.seconds + event.event_time.nanos / 1e9


# The third argument is the message of the event's kind, a different class for each, hence `Any` below.


def _run_started(state: RunState, event: Event, kind: Any) -> None:
    resumed = kind.resumed_after_epoch
    if state.started_seconds == 0.0:
        state.started_seconds = _seconds(event)
    else:
        state.restarts += 1
    state.status, state.failure_reason, state.activity = "running", "", ""
    state.epochs_planned, state.batches_per_epoch = kind.epochs, kind.batches_per_epoch
    # What an interrupted epoch reported is reported again.
    state.losses.drop_after(resumed)
    state.epochs = {number: epoch for number, epoch in state.epochs.items() if number <= resumed}
    state.by_epoch = {number: values for number, values in state.by_epoch.items() if number <= resumed}
    state.within = [each for each in state.within if each[0] <= resumed]
    state.intervals_by_epoch = {number: each for number, each in state.intervals_by_epoch.items() if number <= resumed}
    state.decisions = [each for each in state.decisions if each.epoch <= resumed]
    state.epoch, state.batch, state.step = resumed, 0, event.step
    state.after, state.artifact_epoch = {}, 0


def _step_reported(state: RunState, event: Event, kind: Any) -> None:
    state.epoch, state.batch, state.step = event.epoch, kind.batch, event.step
    state.train_loss, state.learning_rate = kind.loss, kind.learning_rate
    state.items_per_second = kind.items_per_second
    state.losses.add(Point(event.step, event.epoch, kind.loss))


def _evaluation_reported(state: RunState, event: Event, kind: Any) -> None:
    state.activity = f"{kind.evaluation}: {kind.activity} {kind.done} of {kind.total}"


def _epoch_ended(state: RunState, event: Event, kind: Any) -> None:
    state.epoch, state.batch, state.step, state.train_loss = event.epoch, kind.batches, event.step, kind.train_loss
    val_loss = kind.val_loss if kind.HasField("val_loss") else None
    state.epochs[event.epoch] = Epoch(event.epoch, event.step, kind.train_loss, val_loss, kind.seconds)


def _checkpoint_saved(state: RunState, event: Event, kind: Any) -> None:
    reason = "resume" if kind.HasField("training_state") else "model"
    state.checkpoints[reason] = state.checkpoints.get(reason, 0) + 1


def _metrics_measured(state: RunState, event: Event, kind: Any) -> None:
    values, intervals = dict(kind.metrics.values), dict(kind.intervals)
    if kind.stage == STAGE_BEFORE:
        state.before.update(values)
    elif kind.stage == STAGE_AFTER:
        state.after.update(values)
        state.intervals_after.update(intervals)
    elif kind.stage == STAGE_INTERVAL:
        state.within.append((event.epoch, event.step, values))
        if len(state.within) > MAX_LINES:
            state.within = state.within[::2]
    else:
        state.by_epoch.setdefault(event.epoch, {}).update(values)
        state.intervals_by_epoch.setdefault(event.epoch, {}).update(intervals)
    if kind.shown_examples and kind.stage in (STAGE_BEFORE, STAGE_AFTER):
        state.examples["before" if kind.stage == STAGE_BEFORE else "after"] = kind.shown_examples
    state.activity = ""
    for warning in kind.warnings:
        _warn(state, warning)


def _decision_made(state: RunState, event: Event, kind: Any) -> None:
    value = kind.value if kind.HasField("value") else None
    verdict = VERDICTS.get(kind.verdict, "")
    state.decisions.append(
        Decision(event.epoch, kind.callback, verdict, kind.reason, kind.monitor, value, _seconds(event))
    )
    if kind.HasField("patience_left"):
        state.patience_left = kind.patience_left


def _log_written(state: RunState, event: Event, kind: Any) -> None:
    state.lines.append(Line(_seconds(event), kind.severity, kind.text))
    if kind.severity in {SEVERITY_WARNING, SEVERITY_ERROR}:
        _warn(state, kind.text)


def _run_ended(state: RunState, event: Event, kind: Any) -> None:
    state.status = "cancelled" if kind.cancelled else "failed" if kind.failure_reason else "succeeded"
    state.failure_reason = kind.failure_reason
    state.artifact_epoch = kind.artifact_epoch
    state.activity = ""


def _warn(state: RunState, text: str) -> None:
    if text not in state.warnings and len(state.warnings) < MAX_LINES:
        state.warnings.append(text)


_APPLY: Mapping[str, Callable[[RunState, Event, Any], None]] = {
    "run_started": _run_started,
    "step_reported": _step_reported,
    "evaluation_reported": _evaluation_reported,
    "epoch_ended": _epoch_ended,
    "checkpoint_saved": _checkpoint_saved,
    "metrics_measured": _metrics_measured,
    "decision_made": _decision_made,
    "log_written": _log_written,
    "run_ended": _run_ended,
}
