"""A run that is hard to export, for tests of exports."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from support.tracker_events import NDCG, START_SECONDS, numbered
from support.tracker_service import UID
from tunevane.api.type.v1.event_pb2 import (
    STAGE_EPOCH,
    VERDICT_IMPROVED,
    DecisionMade,
    EpochEnded,
    Event,
    LogWritten,
    MetricsMeasured,
    RunEnded,
    RunStarted,
    StepReported,
)
from tunevane.api.type.v1.metric_pb2 import Interval, MetricSet
from tunevane_tracker.export.source import Source
from tunevane_tracker.runs import TrackedRun

CONFIG: dict[str, object] = {"model": 'mini"lm\n', "loss": "cosent", "dataset": "d1", "epochs": 2, "rates": [0.5, 1]}
STEPS = 700
"""More than a page of events, in half a minute: many a second."""


def long_run() -> list[Event]:
    """Makes a run of many steps within milliseconds of each other, a clock that steps back, and a resumption."""
    draw = random.Random(7)
    events = [Event(run_started=RunStarted(epochs=2, batches_per_epoch=STEPS))]
    for step in range(1, STEPS + 1):
        loss = draw.choice([draw.random(), 0.25, math.nan, math.inf]) if step % 50 == 0 else draw.random()
        events.append(Event(epoch=1, step=step, step_reported=StepReported(batch=step, loss=loss, learning_rate=0.5)))
    interval = Interval(low=-0.01, high=0.02, confidence=0.95)
    metrics = MetricsMeasured(stage=STAGE_EPOCH, metrics=MetricSet(values={NDCG: 0.5}), intervals={NDCG: interval})
    events += [
        Event(epoch=1, step=STEPS, epoch_ended=EpochEnded(train_loss=0.5, val_loss=0.75)),
        Event(epoch=1, step=STEPS, metrics_measured=metrics),
        Event(
            epoch=1,
            step=STEPS,
            decision_made=DecisionMade(callback="early_stopping", verdict=VERDICT_IMPROVED, patience_left=2),
        ),
        Event(epoch=1, step=STEPS, run_started=RunStarted(resumed_after_epoch=1, epochs=2)),
        Event(epoch=2, step=STEPS + 1, step_reported=StepReported(batch=1, loss=0.125)),
        Event(epoch=2, step=STEPS + 1, log_written=LogWritten(text='Zeile "zwei" ✨\n\\')),
        Event(epoch=2, step=STEPS + 1, run_ended=RunEnded(artifact_epoch=1)),
    ]
    numbered(events)
    for number, event in enumerate(events):
        # Three in one millisecond, and every hundredth from a clock that is behind.
        event.event_time.seconds = START_SECONDS + number // 30 - (5 if number % 100 == 99 else 0)
        event.event_time.nanos = (number // 3 % 10) * 1_000_000
    return events


EVENTS = long_run()


def exact(events: Sequence[Event]) -> list[bytes]:
    return [event.SerializeToString(deterministic=True) for event in events]


def source(events: Sequence[Event], name: str = "a-run") -> Source:
    return Source(TrackedRun(1, UID, name, CONFIG, float(START_SECONDS), len(events), None, 0), iter(events))
