"""Hands a worker's events to the trainer service: numbered, batched once a second, committed together."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Sequence

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from tunevane import log
from tunevane.api.trainer.v1 import runner_service_pb2, runner_service_pb2_grpc
from tunevane.api.type.v1 import event_pb2
from tunevane.errors import DeadlineExceededError, StaleWriterError, TunevaneError, UnavailableError

_log = log.get("reporter")

EVERY_SECONDS = 1.0
GIVE_UP_SECONDS = 900.0
CALL_SECONDS = 30.0


class Reporter:
    """Emits events from the training thread; a thread of its own sends them and is the heartbeat."""

    def __init__(self, channel: grpc.Channel, run: str, token: str) -> None:
        self._stub = runner_service_pb2_grpc.RunnerServiceStub(channel)
        self._run = run
        self._token = token
        self._waiting: list[event_pb2.Event] = []
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

    def start(self) -> None:
        """Starts sending."""
        self._thread.start()

    def stamp(self, event: event_pb2.Event) -> event_pb2.Event:
        """Adds the time to an event, and epoch and step unless it is about an earlier moment."""
        moment = Timestamp()
        moment.GetCurrentTime()
        event.event_time.CopyFrom(moment)
        if not event.epoch:
            event.epoch, event.step = self.epoch, self.step
        return event

    def emit(self, *events: event_pb2.Event) -> None:
        """Queues events; they are sent within a second.

        Raises:
            StaleWriterError: Another worker has taken over.

        """
        stamped = [self.stamp(event) for event in events]
        with self._lock:
            self._raise()
            self._waiting.extend(stamped)

    def log(self, text: str, severity: event_pb2.Severity.ValueType = event_pb2.SEVERITY_INFO) -> None:
        """Queues a line for people."""
        self.emit(log_event(text, severity))

    def commit(self, events: Iterable[event_pb2.Event]) -> None:
        """Sends everything queued, then these events in one call of their own, and waits until they are on disk.

        Raises:
            StaleWriterError: Another worker has taken over.
            UnavailableError: The trainer service stayed away.

        """
        stamped = [self.stamp(event) for event in events]
        with self._lock:
            self._raise()
            queued, self._waiting = self._waiting, []
            if queued:
                self._send(queued)
            self._send(stamped)

    def flush(self) -> None:
        """Sends what is queued."""
        self.commit([])

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _send(self, events: Sequence[event_pb2.Event]) -> None:
        """Sends until it is acknowledged; holds the lock, so that numbers stay in order."""
        request = runner_service_pb2.AppendEventsRequest(
            run=self._run, lease_token=self._token, worker_sequence=self._next_sequence, events=events
        )
        until = time.monotonic() + GIVE_UP_SECONDS
        pause = 0.1
        while True:
            try:
                answer = self._stub.AppendEvents(request, timeout=CALL_SECONDS)
                break
            except (UnavailableError, DeadlineExceededError) as error:
                if time.monotonic() > until:
                    raise
                _log.warning("trainer is away, repeating: %s", error)
                time.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, 5.0)
        self._next_sequence = answer.next_worker_sequence
        if answer.cancel_requested:
            self.cancelled.set()

    def _send_forever(self) -> None:
        while True:
            with self._wake:
                self._wake.wait(EVERY_SECONDS)
                if self._closing:
                    return
                queued, self._waiting = self._waiting, []
                try:
                    self._send(queued)
                except TunevaneError as error:
                    self._failure = error
                    if not isinstance(error, StaleWriterError):
                        _log.error("events cannot be sent: %s", error)
                    return

    def close(self) -> None:
        """Stops sending; what is queued stays unsent unless it was flushed."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()


def log_event(text: str, severity: event_pb2.Severity.ValueType = event_pb2.SEVERITY_INFO) -> event_pb2.Event:
    """Makes the event of a line for people."""
    return event_pb2.Event(log_written=event_pb2.LogWritten(severity=severity, text=text))
