"""What is shown of a run."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tunevane.api.type.v1.event_pb2 import VERDICT_IMPROVED, VERDICT_NOT_IMPROVED, VERDICT_STOP
from tunevane.api.type.v1.metric_pb2 import Interval
from tunevane_tracker.curve import Curve

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

    best_epoch: int = 0
    """The epoch whose weights were the best then; 0 for callbacks that do not select, and before there was one."""


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

    missing: int = 0
    """Events before it that damage to the tracker's disk has taken."""

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
