"""What a sink is: a place that run events are mirrored to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tunevane.api.type.v1.event_pb2 import Event
from tunevane_tracker.journal import TrackedRun


class SinkUnavailableError(Exception):
    """The sink cannot take events for the moment; they are offered again later. The sentence is shown to people."""


class SinkDiedError(Exception):
    """The sink's process died over an event; after three deaths the event is put aside."""

    def __init__(self, sequence: int, message: str) -> None:
        """Names the event that was being handled; 0 when it was none."""
        super().__init__(message)
        self.sequence = sequence


class Sink(Protocol):
    """Takes the events of runs, in order. Taking an event twice must be the same as taking it once."""

    name: str
    """Name of the sink, for example `wandb`."""

    workers: int
    """How many runs it can be handed at the same time, each from a thread of its own."""

    marker: str
    """Text that is in the configuration of every run that it wants; empty when it may want any run."""

    def wants(self, run: TrackedRun) -> bool:
        """Tells whether a run is mirrored to this sink."""

    def position(self, run: TrackedRun, delivered: int) -> int:
        """Tells after which event to go on.

        Args:
            run: Which run.
            delivered: What it took according to the tracker's own record; a sink that lost its memory
                answers less.

        """

    def deliver(self, run: TrackedRun, events: Sequence[Event], through: int) -> None:
        """Takes the next events; those up to what `position` says then are safe when this returns.

        Args:
            run: Which run.
            events: In order, without those that were put aside; may be empty.
            through: Number that these events reach to, events that were put aside included.

        Raises:
            SinkUnavailableError: It cannot take them now.
            SinkDiedError: Its process died.

        """

    def put_aside(self, run: TrackedRun, sequence: int) -> None:
        """Is told that an event will not be delivered, because it killed the sink three times."""

    def close(self) -> None:
        """Ends; events that come later are delivered after the next start."""
