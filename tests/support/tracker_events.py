"""Runs as lists of events, for tests of the tracker."""

from __future__ import annotations

from collections.abc import Iterable

from tunevane.api.type.v1.event_pb2 import (
    SEVERITY_WARNING,
    STAGE_AFTER,
    STAGE_BEFORE,
    STAGE_EPOCH,
    VERDICT_IMPROVED,
    CheckpointSaved,
    DecisionMade,
    EpochEnded,
    Event,
    LogWritten,
    MetricsMeasured,
    RunEnded,
    RunStarted,
    StepReported,
)
from tunevane.api.type.v1.metric_pb2 import MetricSet

NDCG = "minilm_ndcg@10"
START_SECONDS = 1_700_000_000


def numbered(events: Iterable[Event], first: int = 1) -> list[Event]:
    """Numbers events from `first` and gives each a second of its own."""
    made = []
    for sequence, event in enumerate(events, first):
        event.sequence = sequence
        event.event_time.seconds = START_SECONDS + sequence
        made.append(event)
    return made


def measured(stage: int, epoch: int, value: float) -> Event:
    """Makes the event of one nDCG value."""
    metrics = MetricSet(values={NDCG: value})
    return Event(epoch=epoch, metrics_measured=MetricsMeasured(stage=stage, metrics=metrics))  # type: ignore[arg-type]


def epoch(number: int, batches: int = 3) -> list[Event]:
    """Makes the events of one epoch of `batches` reports; the loss falls, nDCG rises."""
    steps = [
        Event(
            epoch=number,
            step=(number - 1) * batches + batch,
            step_reported=StepReported(batch=batch, loss=1.0 / (number + batch), learning_rate=0.5),
        )
        for batch in range(1, batches + 1)
    ]
    last = number * batches
    value = 0.5 + number / 100
    decision = DecisionMade(
        callback="best-model-checkpoint",
        verdict=VERDICT_IMPROVED,
        reason=f"Model improved to {value}!",
        monitor=NDCG,
        value=value,
        patience_left=0,
    )
    return [
        *steps,
        Event(epoch=number, step=last, epoch_ended=EpochEnded(train_loss=1.0 / number, val_loss=2.0 / number)),
        Event(epoch=number, step=last, checkpoint_saved=CheckpointSaved()),
        measured(STAGE_EPOCH, number, value),
        Event(epoch=number, step=last, decision_made=decision),
    ]


def whole_run(epochs: int = 2, warning: str = "half of the texts are the same") -> list[Event]:
    """Makes a run that succeeds, from start to end."""
    events = [Event(run_started=RunStarted(epochs=epochs, batches_per_epoch=3)), measured(STAGE_BEFORE, 0, 0.5)]
    for number in range(1, epochs + 1):
        events += epoch(number)
    events += [
        Event(epoch=epochs, log_written=LogWritten(severity=SEVERITY_WARNING, text=warning)),
        measured(STAGE_AFTER, epochs, 0.5 + epochs / 100),
        Event(epoch=epochs, run_ended=RunEnded(artifact_epoch=epochs)),
    ]
    return numbered(events)
