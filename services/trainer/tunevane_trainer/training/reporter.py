"""Hands a worker's events to the trainer service: numbered, batched once a second, committed together.

Emitting never waits: an event goes into the outbox, and a thread of its own sends what is there and is the
heartbeat. Only a commit waits, until the service has it on disk.
"""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from tunevane import log
from tunevane.api.trainer.v1 import runner_service_pb2 as wire
from tunevane.api.type.v1 import event_pb2
from tunevane.errors import (
    DeadlineExceededError,
    StaleWriterError,
    StorageFullError,
    TunevaneError,
    UnavailableError,
)
from tunevane_trainer.training.outbox import Outbox, Parcel, field

_log = log.get("reporter")

EVERY_SECONDS = 1.0
GIVE_UP_SECONDS = 900.0
CALL_SECONDS = 30.0

_METHOD = "/tunevane.api.trainer.v1.RunnerService/AppendEvents"


_FINAL = (StaleWriterError, UnavailableError, DeadlineExceededError)
"""What ends a worker's events for good; anything else concerns the events at hand."""


@dataclass(eq=False)
class _Commit:
    """Events that are kept together or not at all, and somebody who waits for them."""

    content: bytes
    count: int
    first: int
    after: int
    """Where in the outbox the events end that come before."""

    done: threading.Event = dataclasses.field(default_factory=threading.Event)
    error: TunevaneError | None = None


class Reporter:
    """Emits events from any thread; a thread of its own sends them."""

    def __init__(self, channel: grpc.Channel, run: str, token: str, outbox_dir: Path | None = None) -> None:
        """Takes the channel, the run, the secret of its lease, and the folder where events wait.

        Without a folder they wait in a temporary file, and what was not sent dies with the process.
        """
        # The events travel as they lie in the outbox.
        self._append: Callable[..., wire.AppendEventsResponse] = channel.unary_unary(
            _METHOD, response_deserializer=wire.AppendEventsResponse.FromString
        )
        self._run = run
        self._token = token
        self._outbox_path = None if outbox_dir is None else outbox_dir / f"{run.replace('/', '-')}.events"
        self._outbox: Outbox | None = None
        self._commits: deque[_Commit] = deque()
        self._next_sequence = 1
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._closing = False
        self._failure: TunevaneError | None = None
        self.cancelled = threading.Event()
        """Set once somebody asked the run to stop."""
        self.epoch = 0
        """Epoch that new events belong to."""
        self.step = 0
        """Optimizer steps taken."""
        self._thread = threading.Thread(target=self._send_forever, name="reporter", daemon=True)

    def start(self, next_sequence: int = 1) -> None:
        """Starts sending: first what an earlier worker of the run left in the outbox.

        Args:
            next_sequence: The number that the trainer service expects next, as the claim told.

        """
        self._next_sequence = next_sequence
        self._outbox = Outbox(
            self._outbox_path, next_sequence, lambda text: self.stamp(log_event(text)).SerializeToString()
        )
        self._thread.start()

    def stamp(self, event: event_pb2.Event) -> event_pb2.Event:
        """Adds the time to an event, and epoch and step unless it is about an earlier moment."""
        event.event_time.seconds, event.event_time.nanos = divmod(time.time_ns(), 1_000_000_000)
        if not event.epoch:
            event.epoch, event.step = self.epoch, self.step
        return event

    def _encode(self, events: Iterable[event_pb2.Event]) -> bytes:
        return b"".join([field(self.stamp(event).SerializeToString()) for event in events])

    @property
    def _box(self) -> Outbox:
        if self._outbox is None:
            raise UnavailableError("the worker does not send events now")
        return self._outbox

    def emit(self, *events: event_pb2.Event) -> None:
        """Puts events into the outbox; they are sent within a second.

        Raises:
            StaleWriterError: Another worker has taken over.

        """
        # Short on purpose: this is what training pays for.
        now = time.time_ns()
        for event in events:
            data = event.SerializeToString()
            # An event about an earlier moment says itself when that was.
            epoch, step = (0, 0) if event.epoch else (self.epoch, self.step)
            with self._lock:
                if self._failure is not None:
                    raise self._failure
                if self._outbox is None:
                    raise UnavailableError("the worker does not send events now")
                self._outbox.append(data, now, epoch, step)

    def log(self, text: str, severity: event_pb2.Severity.ValueType = event_pb2.SEVERITY_INFO) -> None:
        """Emits a line for people."""
        self.emit(log_event(text, severity))

    def commit(self, events: Sequence[event_pb2.Event]) -> None:
        """Sends what was emitted, then these events in one call of their own, and waits until they are on disk.

        Raises:
            StaleWriterError: Another worker has taken over.
            UnavailableError: The trainer service stayed away.

        """
        content, count = self._encode(events), len(events)
        with self._wake:
            self._raise()
            commit = _Commit(content, count, self._box.reserve(count), self._box.end)
            self._commits.append(commit)
            self._wake.notify()
        commit.done.wait()
        if commit.error is not None:
            raise commit.error

    def flush(self) -> None:
        """Sends what was emitted."""
        self.commit([])

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _send_forever(self) -> None:
        while self._wait():
            try:
                self._send_all()
            except TunevaneError as error:
                self._fail(error)
                return
            except Exception as error:
                _log.exception("events cannot be sent")
                self._fail(UnavailableError(f"events cannot be sent: {type(error).__name__}: {error}"))
                return
        self._fail(UnavailableError("the worker has stopped sending events"))

    def _wait(self) -> bool:
        """Waits until there is something to do; False at the end."""
        with self._wake:
            if not self._commits and not self._closing:
                self._wake.wait(EVERY_SECONDS)
            return not self._closing

    def _send_all(self) -> None:
        """Sends what was emitted and committed, in order; an empty call when there is nothing."""
        calls = 0
        while not self._closing:
            with self._lock:
                commit = self._commits[0] if self._commits else None
                limit = self._box.end if commit is None else commit.after
            # Without the lock: what lies before the end does not change, and nobody who emits has to wait.
            parcel = self._box.next(limit)
            if parcel.count:
                self._send_parcel(parcel)
            elif commit is not None:
                self._send_commit(commit)
            elif not calls:
                self._send(b"", 0)
            else:
                return
            calls += 1
            with self._lock:
                self._box.arrived(parcel, may_empty=not self._commits)
                if not parcel.count and commit is None:
                    return

    def _send_parcel(self, parcel: Parcel) -> None:
        """Sends events; those that the service refuses are lost, which people are told."""
        try:
            self._send(parcel.content, parcel.count)
        except _FINAL:
            raise
        except TunevaneError as error:
            _log.error("events were refused count=%d: %s", parcel.count, error)
            text = f"{parcel.count} events were refused by the trainer service and are lost: {str(error)[:500]}"
            self._send(self._encode([log_event(text, event_pb2.SEVERITY_WARNING)]), 1)
            with self._lock:
                self._box.refused(parcel.first, parcel.count - 1)

    def _send_commit(self, commit: _Commit) -> None:
        try:
            self._send(commit.content, commit.count)
        except _FINAL:
            raise
        except TunevaneError as error:
            # Nothing of it was kept; whoever waits decides what becomes of the run.
            commit.error = error
        with self._lock:
            self._commits.popleft()
            if commit.error is not None:
                self._box.refused(commit.first, commit.count)
        commit.done.set()

    def _send(self, content: bytes, count: int) -> None:
        """Sends until it is acknowledged.

        Raises:
            UnavailableError: The trainer service stayed away.
            TunevaneError: It refused.

        """
        # What belongs to one message may be written in pieces, one behind the other.
        head = wire.AppendEventsRequest(
            run=self._run, lease_token=self._token, worker_sequence=self._next_sequence
        ).SerializeToString()
        until = time.monotonic() + GIVE_UP_SECONDS
        pause = 0.1
        while True:
            try:
                answer = self._append(head + content, timeout=CALL_SECONDS)
                break
            except (UnavailableError, DeadlineExceededError, StorageFullError) as error:
                if time.monotonic() > until or self._closing:
                    raise
                _log.warning("trainer is away, repeating: %s", error)
                self._pause(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, 5.0)
        self._next_sequence = answer.next_worker_sequence
        if answer.cancel_requested:
            self.cancelled.set()

    def _pause(self, seconds: float) -> None:
        """Waits, unless the worker ends."""
        with self._wake:
            self._wake.wait_for(lambda: self._closing, seconds)

    def _fail(self, error: TunevaneError) -> None:
        """Ends the sending, and tells everybody who waits or emits."""
        with self._lock:
            self._failure = error
            waiting = list(self._commits)
            self._commits.clear()
            closing = self._closing
        if not closing and not isinstance(error, StaleWriterError):
            _log.error("events cannot be sent: %s", error)
        for commit in waiting:
            commit.error = error
            commit.done.set()

    def close(self) -> None:
        """Stops sending; what was emitted since the last flush stays in the outbox."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None


def log_event(text: str, severity: event_pb2.Severity.ValueType = event_pb2.SEVERITY_INFO) -> event_pb2.Event:
    """Makes the event of a line for people."""
    return event_pb2.Event(log_written=event_pb2.LogWritten(severity=severity, text=text))
