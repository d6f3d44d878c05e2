"""A run with numbers that are hard to keep, for tests of sinks."""

from __future__ import annotations

import math
import struct

from support.tracker_events import numbered, whole_run
from support.wandb_runs import with_examples
from tunevane.api.type.v1.event_pb2 import Event, RunStarted, StepReported

HARD = (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e308, 0.1 + 0.2, 1 / 3, 2.0**53 + 2, 1e-17)


def hard_run(epochs: int = 2) -> list[Event]:
    """Makes a run whose losses are hard to keep, with a worker that is lost in between."""
    run = [*with_examples(whole_run(epochs))]
    hard = [
        Event(epoch=1, step=100 + number, step_reported=StepReported(batch=number, loss=value, learning_rate=value))
        for number, value in enumerate(HARD)
    ]
    resumed = Event(epoch=1, step=3, run_started=RunStarted(resumed_after_epoch=1, epochs=epochs))
    return numbered([*run[:9], *hard, resumed, *run[9:]])


def bits(value: float) -> bytes:
    """Returns the bits of a number, so that NaN equals NaN and 0.0 is not -0.0."""
    return struct.pack("<d", value)


CONFIG = {"model": "minilm", "loss": "cosent", "batch_size": 64, "callbacks": [{"name": "early-stopping"}]}
