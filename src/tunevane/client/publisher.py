"""Sends the events of a loop that is not ours to the tracker, which that loop never waits for."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping

import grpc
from google.protobuf import json_format, struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from tunevane import log
from tunevane.api.tracker.v1 import tracker_service_pb2 as wire
from tunevane.api.tracker.v1 import tracker_service_pb2_grpc
from tunevane.api.type.v1 import event_pb2
from tunevane.errors import SequenceGapError, TunevaneError
from tunevane.rpc.channel import connect

_log = log.get("publisher")

BATCH = 200
CALL_SECONDS = 20.0
LONGEST_PAUSE_SECONDS = 30.0


class Publisher:
    """One run's events on their way to a tracker: numbered, in order, each once.

    Events wait in memory until the tracker has them on disk; what it does not have when the process ends is lost,
    because a loop that is not ours does not resume from a commit of ours either.
    """

    def __init__(
        self,
        target: str,
        run: str,
        config: Mapping[str, object],
        *,
        on_notice: Callable[[str], None] | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        """Starts sending.

        Args:
            target: Address of the tracker.
            run: Resource name, `runs/{run}`.
            config: What is known of the run, for people and sinks; see `PublishEventsRequest.config`.
            on_notice: Hears the tracker's lines for people, for example where to view the run.
            channel: An open channel to the target; None opens one.

        """
        self.run = run
        self.uid = str(uuid.uuid4())
        self._stub = tracker_service_pb2_grpc.TrackerServiceStub(connect(target) if channel is None else channel)
        self._config = json_format.ParseDict(dict(config), struct_pb2.Struct())
        self._on_notice = on_notice
        self._events: deque[event_pb2.Event] = deque()
        self._next = 1
        self._changed = threading.Condition()
        self._closing = False
        self._give_up = False
        self._thread = threading.Thread(target=self._send_forever, name="publisher", daemon=True)
        self._thread.start()

    def emit(self, event: event_pb2.Event, *, epoch: int = 0, step: int = 0) -> None:
        """Adds an event; returns at once."""
        moment = Timestamp()
        moment.GetCurrentTime()
        with self._changed:
            event.sequence, event.epoch, event.step = self._next, epoch, step
            event.event_time.CopyFrom(moment)
            self._next += 1
            self._events.append(event)
            self._changed.notify_all()

    def close(self, timeout_seconds: float = 30.0) -> int:
        """Waits until everything has been sent, or the time is over, and stops.

        Returns:
            Events that the tracker did not get.

        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        with self._changed:
            self._give_up = True
            self._changed.notify_all()
            left = len(self._events)
        if left:
            _log.warning("the tracker did not get %d events of %s", left, self.run)
        return left

    def _send_forever(self) -> None:
        pause = 0.2
        while True:
            with self._changed:
                while not self._events and not self._closing:
                    self._changed.wait()
                if not self._events or self._give_up:
                    return
                batch = [self._events[n] for n in range(min(BATCH, len(self._events)))]
            try:
                self._send(batch)
                pause = 0.2
            except TunevaneError as error:
                _log.warning("tracker: %s", error)
                # Randomness only spreads the repeats of many publishers.
                self._wait(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._changed:
            while not self._give_up and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)

    def _send(self, batch: list[event_pb2.Event]) -> None:
        request = wire.PublishEventsRequest(run=self.run, uid=self.uid, events=batch)
        if batch[0].sequence == 1:
            request.config.CopyFrom(self._config)
        try:
            response = self._stub.PublishEvents(request, timeout=CALL_SECONDS)
        except SequenceGapError as error:
            # Only a tracker that lost its disk asks for events that it had acknowledged.
            expected = error.details.get("expected_sequence", "1")
            raise TunevaneError(f"the tracker wants event {expected} again, which is not kept here") from error
        with self._changed:
            while self._events and self._events[0].sequence <= response.acked_sequence:
                self._events.popleft()
        for notice in response.notices:
            if self._on_notice is not None:
                self._on_notice(notice)
