"""What earlier workers of a run committed, by epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tunevane.api.type.v1 import blob_pb2, event_pb2


@dataclass
class Committed:
    """The events that the rest of a run depends on, folded."""

    weights: dict[int, blob_pb2.Bundle] = field(default_factory=dict)
    """Weights of every epoch that was saved; new ones are added as the run goes on."""

    steps: dict[int, int] = field(default_factory=dict)
    """Optimizer steps at the end of every epoch that was trained."""

    losses: dict[int, dict[str, float]] = field(default_factory=dict)
    """`train_loss`, and `val_loss` where there is one, of every epoch that was trained."""

    before: dict[str, float] | None = None
    """Metrics of the pre-trained model; None when they were not measured yet."""

    after: dict[str, float] | None = None
    """Metrics of the weights that become the artifact; None when they were not measured yet."""

    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    """Metrics of every epoch that has some."""

    decided: set[int] = field(default_factory=set)
    """Epochs whose metrics or decisions were committed; neither is committed again."""

    intervals: set[int] = field(default_factory=set)
    """Optimizer steps within epochs at which metrics were measured for the record."""


def fold(history: Iterable[event_pb2.Event]) -> Committed:
    """Folds events, in sequence order."""
    found = Committed()
    for event in history:
        kind = event.WhichOneof("kind")
        if kind == "checkpoint_saved" and not event.checkpoint_saved.batch:
            found.weights[event.epoch] = event.checkpoint_saved.weights
        elif kind == "epoch_ended":
            found.steps[event.epoch] = event.step
            found.losses[event.epoch] = losses(event.epoch_ended)
        elif kind == "decision_made":
            found.decided.add(event.epoch)
        elif kind == "metrics_measured":
            _measured(found, event)
    return found


def losses(ended: event_pb2.EpochEnded) -> dict[str, float]:
    """Returns the losses of an epoch by name."""
    found = {"train_loss": ended.train_loss}
    if ended.HasField("val_loss"):
        found["val_loss"] = ended.val_loss
    return found


def _measured(found: Committed, event: event_pb2.Event) -> None:
    stage, values = event.metrics_measured.stage, dict(event.metrics_measured.metrics.values)
    if stage == event_pb2.STAGE_BEFORE:
        found.before = values
    elif stage == event_pb2.STAGE_AFTER:
        found.after = values
    elif stage == event_pb2.STAGE_EPOCH:
        found.metrics[event.epoch] = values
        found.decided.add(event.epoch)
    elif stage == event_pb2.STAGE_INTERVAL:
        found.intervals.add(event.step)
