"""A sink whose `Writer` runs in a process of its own, which is started again when it dies."""

from __future__ import annotations

import base64
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from tunevane.api.type.v1.event_pb2 import Event
from tunevane.errors import ConfigurationError
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.sinks.context import SinkContext
from tunevane_tracker.sinks.port import SinkDiedError, SinkUnavailableError
from tunevane_tracker.sinks.process import ChildDiedError, ChildProcess

PART_BYTES = 4 * 1024 * 1024
"""Events go to the process in messages of about this size."""


def parts(events: Sequence[Event], limit_bytes: int) -> Iterator[list[Event]]:
    """Splits events into parts of at most `limit_bytes`, each with one event at least."""
    part: list[Event] = []
    size_bytes = 0
    for event in events:
        if part and size_bytes + event.ByteSize() > limit_bytes:
            yield part
            part, size_bytes = [], 0
        part.append(event)
        size_bytes += event.ByteSize()
    if part:
        yield part


class HostedSink:
    """Hands the events of all runs to one process."""

    workers = 1
    marker = ""

    def __init__(self, context: SinkContext, writer: str, needs: str = "") -> None:
        """Starts nothing yet.

        Args:
            context: From the entry point's function.
            writer: The `Writer` class as `module:Class`; only the process imports it.
            needs: A module that has to be installed, which the extra named like the sink installs.

        Raises:
            ConfigurationError: It is not installed.

        """
        if needs and importlib.util.find_spec(needs) is None:
            raise ConfigurationError(
                f"sinks: '{context.name}' needs a package that is not here; install tunevane[{context.name}]"
            )
        self.name = context.name
        self._folder = context.folder
        # The operator's key of W&B is nobody else's affair.
        self._environ = {name: value for name, value in context.environ.items() if not name.startswith("WANDB_")}
        self._writer = writer
        self._lock = threading.Lock()
        self._process: ChildProcess | None = None
        self._stopping = False
        self._positions: dict[str, int] = {}
        self._careful: set[str] = set()

    def wants(self, run: TrackedRun) -> bool:
        """Every run is written."""
        return True

    def position(self, run: TrackedRun, delivered: int) -> int:
        """What the process found or wrote; before it was asked, what the tracker's record says."""
        return self._positions.get(run.uid, delivered)

    def deliver(self, run: TrackedRun, events: Sequence[Event], through: int) -> None:
        """Has the next events written."""
        first = run.uid not in self._positions
        if first:
            self._positions[run.uid] = self._ask(run, 0, {"op": "open", "run": asdict(run)})
        position = self._positions[run.uid]
        before = events[0].sequence - 1 if events else through
        if first and position < before:
            # Something is missing where it writes: the next call begins there.
            return
        new = [event for event in events if event.sequence > position]
        for part in parts(new, 1 if run.uid in self._careful else PART_BYTES):
            encoded = [base64.b64encode(event.SerializeToString()).decode() for event in part]
            guilty = part[0].sequence if len(part) == 1 else 0
            self._ask(run, guilty, {"op": "write", "run": asdict(run), "events": encoded})
            self._positions[run.uid] = part[-1].sequence
        self._positions[run.uid] = max(position, through)
        self._careful.discard(run.uid)
        if run.ended is not None and through >= run.acked:
            # Opened again if anything should follow; a tracker that runs for years must not keep every run.
            self._ask(run, 0, {"op": "close", "run": asdict(run)})
            self._positions.pop(run.uid)

    def put_aside(self, run: TrackedRun, sequence: int) -> None:
        """The event is left out from now on."""

    def close(self) -> None:
        """Ends the process; it is safe to kill at any moment."""
        with self._lock:
            self._stopping = True
            process, self._process = self._process, None
        if process is not None:
            process.kill()

    def _ask(self, run: TrackedRun, guilty: int, message: dict[str, object]) -> int:
        """Asks the process, which is started if there is none, and returns the position in its answer."""
        process = self._process or self._start()
        try:
            answer = process.ask(message)
        except ChildDiedError as error:
            with self._lock:
                self._process = None
            self._positions.clear()
            # Next time one event at a time, to learn which one it is.
            self._careful.add(run.uid)
            raise SinkDiedError(guilty, str(error)) from error
        if answer["op"] == "unavailable":
            raise SinkUnavailableError(str(answer["reason"]))
        return int(str(answer["position"]))

    def _start(self) -> ChildProcess:
        with self._lock:
            if self._stopping:
                raise SinkUnavailableError("the tracker is stopping")
            self._folder.mkdir(parents=True, exist_ok=True)
            arguments = ["-m", "tunevane_tracker.sinks.hosting", self._writer, str(self._folder.resolve())]
            self._process = ChildProcess(self.name, arguments, self._folder, self._environ)
            return self._process
