"""What a sink with a process of its own implements: `Writer`, which lives in that process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tunevane.api.type.v1.event_pb2 import Event
from tunevane_tracker.journal import TrackedRun


class Writer(Protocol):
    """Writes the events of runs somewhere. Its process may be killed at any moment.

    Everything it needs to go on has to be where it writes, because the process remembers nothing: `open`
    finds out what is there. A method that raises `SinkUnavailableError` is called again later; one that
    raises anything else ends the process, and an event that does so three times is put aside.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        """Keeps its files in `folder`, which exists; `environ` is the operator's environment."""

    def open(self, run: TrackedRun) -> int:
        """Finds what is there of a run and returns the number of the last event in it; 0 when there is none.

        Whatever was left half-written behind that event has to be removed, or recognised by `write`.
        """

    def write(self, run: TrackedRun, events: Sequence[Event]) -> None:
        """Writes the next events of an opened run; they must survive the death of the process afterwards."""

    def close(self, run: TrackedRun) -> None:
        """Lets go of a run that has ended; it is opened again if anything should follow."""
