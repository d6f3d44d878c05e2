"""A run's log as a fold over its events: the lines that people read."""

from __future__ import annotations

import math

from tunevane.api.type.v1 import event_pb2

BAR_WIDTH = 40

_LEVELS = {
    event_pb2.SEVERITY_UNSPECIFIED: "INFO ",
    event_pb2.SEVERITY_DEBUG: "DEBUG",
    event_pb2.SEVERITY_INFO: "INFO ",
    event_pb2.SEVERITY_WARNING: "WARN ",
    event_pb2.SEVERITY_ERROR: "ERROR",
}


class Transcript:
    """Turns events into lines, in order; what it remembers is small and depends on the events alone."""

    def __init__(self) -> None:
        self._epochs = 0
        self._epoch_began = 0.0

    def lines(self, event: event_pb2.Event) -> list[str]:
        """Returns the lines that an event adds to the log; most add none."""
        moment = event.event_time.seconds + event.event_time.nanos / 1e9
        kind = event.WhichOneof("kind")
        if kind == "run_started":
            self._epochs = event.run_started.epochs
            self._epoch_began = moment
            return []
        if kind == "epoch_ended":
            line = self._epoch_line(event, moment)
            self._epoch_began = moment
            return [line]
        if kind == "log_written":
            return [f"{_LEVELS.get(event.log_written.severity, 'INFO ')} {event.log_written.text}"]
        return []

    def _epoch_line(self, event: event_pb2.Event, moment: float) -> str:
        ended = event.epoch_ended
        took = clock(max(moment - self._epoch_began, 0))
        line = (
            f"Training [{event.epoch}/{self._epochs}] {'━' * BAR_WIDTH} {ended.batches}/{ended.batches} 0:00:00 {took}"
        )
        line += f" • loss: {number(ended.train_loss)}"
        if ended.HasField("val_loss"):
            line += f" • val_loss: {number(ended.val_loss)}"
        return line


def number(value: float) -> str:
    """Writes a value with three decimals, a small one with as many as show three digits: only 0 is `0.000`."""
    if value == 0 or not math.isfinite(value) or abs(value) >= 0.1:
        return f"{value:.3f}"
    return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}" if abs(value) >= 1e-6 else f"{value:.2e}"


def clock(seconds: float) -> str:
    """Writes a duration as `h:mm:ss`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
