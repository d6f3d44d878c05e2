"""TrackerService: the gRPC side of the journal."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Container, Iterable, Iterator, Sequence

import grpc
from google.protobuf import json_format

from tunevane.api.tracker.v1 import tracker_service_pb2 as pb
from tunevane.api.tracker.v1 import tracker_service_pb2_grpc
from tunevane.api.type.v1.event_pb2 import Event
from tunevane.core import names
from tunevane.errors import AlreadyExistsError, InvalidRequestError, Problem
from tunevane_tracker.batch import Batch
from tunevane_tracker.cursors import Cursors
from tunevane_tracker.delivery import Delivery
from tunevane_tracker.journal import Journal, TrackedRun
from tunevane_tracker.notices import Notices
from tunevane_tracker.sinks.prometheus import TrackerMetrics
from tunevane_tracker.structs import plain
from tunevane_tracker.welcome import Welcome

MAX_EVENTS = 1000
MAX_EVENT_BYTES = 1 << 20
MAX_CONFIG_BYTES = 1 << 18
MAX_SEQUENCE = (1 << 63) - 1

_UID = re.compile(r"[A-Za-z0-9-]{1,64}")

Request = pb.PublishEventsRequest


class TrackerServicer(tracker_service_pb2_grpc.TrackerServiceServicer):
    """Takes events, and tells what became of them."""

    def __init__(
        self,
        journal: Journal,
        notices: Notices,
        cursors: Cursors,
        deliveries: Sequence[Delivery],
        metrics: TrackerMetrics,
        welcome: Welcome,
        stopped: Container[str],
    ) -> None:
        """Uses these parts; `welcome` gives a new run its first notice, `stopped` are the uids of runs to cancel."""
        self._stopped = stopped
        self._journal = journal
        self._notices = notices
        self._cursors = cursors
        self._deliveries = deliveries
        self._metrics = metrics
        self._welcome = welcome

    async def PublishEvents(  # noqa: N802 - gRPC's name
        self, request: Request, context: grpc.aio.ServicerContext[Request, pb.PublishEventsResponse]
    ) -> pb.PublishEventsResponse:
        """Stores the next events of a run; answers when they are on disk."""
        name = check_publish(request)
        config = plain(request.config) if request.HasField("config") else None
        uid, writer_epoch, batch = request.uid, request.writer_epoch, Batch.of(request)
        begin = time.monotonic()
        appended = self._journal.append_batch(name, uid, batch, config, writer_epoch)
        try:
            done = await asyncio.wrap_future(appended)
        except AlreadyExistsError as error:
            self._metrics.conflicts.inc(int(error.details["conflicts"]))
            raise
        self._metrics.append_seconds.observe(time.monotonic() - begin)
        self._metrics.events.inc(done.stored)
        self._metrics.duplicates.inc(done.duplicates)
        for delivery in self._deliveries:
            delivery.offer(done.run)
        if not self._welcome.greeted(done.run):
            await self._welcome.greet(done.run)
        first = batch.first or done.acked + 1
        lines: list[str] = []
        if self._notices.waiting(done.run, first, repeated=done.duplicates > 0):
            lines = await asyncio.wrap_future(self._notices.take(done.run, first))
        return pb.PublishEventsResponse(
            acked_sequence=done.acked,
            notices=lines,
            journal_id=self._journal.id,
            cancel_requested=done.run.uid in self._stopped,
        )

    async def GetTrackedRun(  # noqa: N802 - gRPC's name
        self,
        request: pb.GetTrackedRunRequest,
        context: grpc.aio.ServicerContext[pb.GetTrackedRunRequest, pb.GetTrackedRunResponse],
    ) -> pb.GetTrackedRunResponse:
        """Tells how far the tracker and its sinks are with a run."""
        run = await asyncio.to_thread(self._journal.run, _named(request.run))
        sinks = [self._sink_state(delivery, run) for delivery in self._deliveries if delivery.sink.wants(run)]
        response = pb.GetTrackedRunResponse(acked_sequence=run.acked, sinks=sinks, name=run.name, uid=run.uid)
        if run.config:
            json_format.ParseDict(dict(run.config), response.config)
        return response

    async def ListEvents(  # noqa: N802 - gRPC's name
        self,
        request: pb.ListEventsRequest,
        context: grpc.aio.ServicerContext[pb.ListEventsRequest, pb.ListEventsResponse],
    ) -> pb.ListEventsResponse:
        """Lists a page of a run's events; a page ends early rather than pass the message limit."""
        after, size = _page(request)
        run = await asyncio.to_thread(self._journal.run, _named(request.run))
        events = _fitting(await asyncio.to_thread(self._journal.events, run, after, size))
        last = events[-1].sequence if events else run.newest
        return pb.ListEventsResponse(events=events, next_page_token=str(last) if last < run.newest else "")

    def _sink_state(self, delivery: Delivery, run: TrackedRun) -> pb.SinkState:
        cursor = self._cursors.shown(delivery.sink.name, run)
        return pb.SinkState(
            sink=delivery.sink.name,
            delivered_sequence=delivery.sink.position(run, cursor.delivered),
            url=cursor.url,
            problem=cursor.problem,
        )


def check_publish(request: Request) -> str:
    """Checks a request and returns the run's id.

    Raises:
        InvalidRequestError: Lists everything that is wrong with it.

    """
    problems: list[Problem] = []
    try:
        name = _run_id(request.run)
    except InvalidRequestError as error:
        name = ""
        problems += error.problems
    if not _UID.fullmatch(request.uid):
        problems.append(Problem("uid", f"must be 1 to 64 letters, digits and hyphens, not {request.uid[:80]!r}"))
    if len(request.events) > MAX_EVENTS:
        problems.append(Problem("events", f"at most {MAX_EVENTS} at a time, not {len(request.events)}"))
    elif request.events:
        problems += _numbering([event.sequence for event in request.events])
        if request.ByteSize() > MAX_EVENT_BYTES:
            problems += _sizes(request.events)
    if request.config.ByteSize() > MAX_CONFIG_BYTES:
        problems.append(Problem("config", f"has at most {MAX_CONFIG_BYTES} bytes, not {request.config.ByteSize()}"))
    if problems:
        raise InvalidRequestError(problems)
    return name


def _sizes(events: Iterable[Event]) -> Iterator[Problem]:
    for index, event in enumerate(events):
        if event.ByteSize() > MAX_EVENT_BYTES:
            text = f"an event has at most {MAX_EVENT_BYTES} bytes, not {event.ByteSize()}"
            yield Problem(f"events[{index}]", text)


def _numbering(sequences: list[int]) -> list[Problem]:
    first = sequences[0]
    if first < 1 or first > MAX_SEQUENCE - len(sequences):
        return [Problem("events[0].sequence", f"must be at least 1 and below 2^63, not {first}")]
    if sequences == list(range(first, first + len(sequences))):
        return []
    for index, sequence in enumerate(sequences):
        if sequence != first + index:
            text = f"must be {first + index}, one more than the event before, not {sequence}"
            return [Problem(f"events[{index}].sequence", text)]
    return []


def _run_id(resource: str) -> str:
    prefix, _, name = resource.partition("/")
    if prefix != "runs":
        raise InvalidRequestError([Problem("run", f"must be of the form runs/<name>, not {resource[:80]!r}")])
    names.check(name, "run")
    return name


def _named(resource: str) -> str:
    """Reads which run is meant: by its name, or by its unique id, which need not be a name."""
    prefix, _, name = resource.partition("/")
    return name if prefix == "runs" and _UID.fullmatch(name) else _run_id(resource)


def _page(request: pb.ListEventsRequest) -> tuple[int, int]:
    """Reads where a page begins (after which number) and how long it may be."""
    problems = []
    if request.page_size < 0:
        problems.append(Problem("page_size", f"must not be negative, not {request.page_size}"))
    token = request.page_token or "0"
    if not (token.isascii() and token.isdigit() and len(token) < 19):
        problems.append(Problem("page_token", f"must be the token of a page before, not {token[:80]!r}"))
    if problems:
        raise InvalidRequestError(problems)
    return int(token), min(request.page_size or 100, MAX_EVENTS)


def _fitting(events: Sequence[Event]) -> list[Event]:
    taken: list[Event] = []
    total_bytes = 0
    for event in events:
        total_bytes += event.ByteSize()
        if taken and total_bytes > 3 * MAX_EVENT_BYTES:
            break
        taken.append(event)
    return taken
