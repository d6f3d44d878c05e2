"""A batch of events as it is kept: their bytes as they came, and what has to be known of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from tunevane.api.tracker.v1.tracker_service_pb2 import PublishEventsRequest
from tunevane.api.type.v1.event_pb2 import Event

_EDGES = frozenset({"run_started", "run_ended"})


class DamagedBatchError(Exception):
    """The bytes of a batch are not those that were stored."""


@dataclass(frozen=True)
class Batch:
    """Events that are numbered without a gap."""

    first: int
    """Number of the first event; 0 when there is none."""

    last: int
    """Number of the last event; 0 when there is none."""

    content: bytes
    """The events as the field `events` of a `PublishEventsRequest`: the form in which they travel is kept."""

    edges: Sequence[tuple[int, bool]] = ()
    """The events that start or end the run: their numbers, and whether they end it."""

    @property
    def count(self) -> int:
        """How many events there are."""
        return self.last - self.first + 1 if self.last else 0

    def events(self) -> Sequence[Event]:
        """Reads the events."""
        return parse(self.content)

    @staticmethod
    def of(request: PublishEventsRequest) -> Batch:
        """Takes the events out of a request, which keeps nothing else; they have to be numbered without a gap."""
        events = request.events
        if not events:
            return Batch(0, 0, b"")
        edges = [
            (event.sequence, event.HasField("run_ended")) for event in events if event.WhichOneof("kind") in _EDGES
        ]
        first, last = events[0].sequence, events[-1].sequence
        # To clear what is around the events and write the rest out costs a tenth of writing each event.
        for other, _ in request.ListFields():
            if other.number != PublishEventsRequest.EVENTS_FIELD_NUMBER:
                request.ClearField(other.name)  # type: ignore[arg-type]  # the stubs want literals
        return Batch(first, last, request.SerializeToString(), edges)

    @staticmethod
    def from_events(events: Iterable[Event]) -> Batch:
        """Makes a batch of events, which are copied."""
        return Batch.of(PublishEventsRequest(events=events))


def parse(content: bytes) -> Sequence[Event]:
    """Reads the events of a batch's content."""
    return PublishEventsRequest.FromString(content).events


def checksum(run: int, first: int, last: int, content: bytes) -> int:
    """Returns the CRC-32 of a stored batch; SQLite itself would not notice a flipped bit in it."""
    return zlib.crc32(content, zlib.crc32(b"%d %d %d" % (run, first, last)))


def checked(run: object, first: object, last: object, stored_checksum: object, content: object) -> Sequence[Event]:
    """Reads the events of a stored batch; its columns are taken as they are in the file.

    Raises:
        DamagedBatchError: They are not what was stored.

    """
    if not (isinstance(run, int) and isinstance(first, int) and isinstance(last, int) and isinstance(content, bytes)):
        raise DamagedBatchError
    if checksum(run, first, last, content) != stored_checksum:
        raise DamagedBatchError
    try:
        events = parse(content)
    except DecodeError:
        raise DamagedBatchError from None
    if len(events) != last - first + 1 or events[0].sequence != first:
        raise DamagedBatchError
    return events


def same(kept: Event, other: Event) -> bool:
    """Tells whether two events mean the same; equal bytes do, even with a NaN inside."""
    return kept == other or kept.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
