"""Where a run that is exported comes from: a tracker that runs, or the folder of one that does not."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunevane.api.tracker.v1 import tracker_service_pb2 as pb
from tunevane.api.tracker.v1 import tracker_service_pb2_grpc
from tunevane.api.type.v1.event_pb2 import Event
from tunevane.errors import ConfigurationError
from tunevane.rpc.channel import connect
from tunevane_tracker.journal import Journal
from tunevane_tracker.lock import hold
from tunevane_tracker.runs import TrackedRun
from tunevane_tracker.structs import plain

PAGE = 1000


@dataclass(frozen=True)
class Source:
    """A run to export."""

    run: TrackedRun
    """What is known of it besides its events."""

    events: Iterable[Event]
    """Its events so far, in order; read once."""


@contextmanager
def remote(target: str, name: str) -> Iterator[Source]:
    """Reads from a tracker by gRPC; `name` is a run's name or unique id.

    Raises:
        NotFoundError: The tracker does not know it.
        UnavailableError: Nothing answers.

    """
    with connect(target) as channel:
        stub = tracker_service_pb2_grpc.TrackerServiceStub(channel)
        known = stub.GetTrackedRun(pb.GetTrackedRunRequest(run=f"runs/{name}"))
        config = plain(known.config) if known.HasField("config") else {}
        pages = _pages(stub, known.uid)
        first = next(pages, None)
        created = 0.0 if first is None else first.event_time.seconds + first.event_time.nanos / 1e9
        run = TrackedRun(0, known.uid, known.name, config, created, known.acked_sequence, None, 0)
        yield Source(run, _joined(first, pages))


def _joined(first: Event | None, rest: Iterator[Event]) -> Iterator[Event]:
    if first is not None:
        yield first
        yield from rest


def _pages(stub: tracker_service_pb2_grpc.TrackerServiceStub, uid: str) -> Iterator[Event]:
    # By unique id: another run may take the name while this one is read.
    request = pb.ListEventsRequest(run=f"runs/{uid}", page_size=PAGE)
    while True:
        page = stub.ListEvents(request)
        yield from page.events
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


@contextmanager
def offline(folder: Path, name: str) -> Iterator[Source]:
    """Reads from the `state_dir` of a tracker that does not run.

    Raises:
        ConfigurationError: It holds no tracker's database, or a tracker runs on it.
        NotFoundError: There is no such run in it.

    """
    path = folder / "tracker.sqlite"
    if not path.is_file():
        raise ConfigurationError(f"{folder} is no tracker's state_dir: there is no tracker.sqlite in it")
    with hold(folder):
        journal = Journal(path, clock=time.time)
        try:
            run = journal.run(name)
            yield Source(run, _stored(journal, run))
        finally:
            journal.close()


def _stored(journal: Journal, run: TrackedRun) -> Iterator[Event]:
    after = 0
    while events := journal.events(run, after, PAGE):
        yield from events
        after = events[-1].sequence
