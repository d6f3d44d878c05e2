"""Keeps a worker's events in a file until the trainer service has them, so that emitting one is a single write.

A frame is `[length, number, kind, time, epoch, step]`, an event's bytes, and a checksum of both; an empty frame
follows the last. Time, epoch and step are put into the event when it is sent: whoever emits does no more than has to be
done at once. The file is written from its start again whenever all of it has arrived: the pages of a file that does
not grow are there already, which is most of what a write costs. What it holds survives the death of the process: the
run's next worker on this machine hands it over first.

Used under the owner's lock, but for `next`, which only the sender calls.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tunevane import log
from tunevane.api.trainer.v1 import runner_service_pb2 as wire
from tunevane.api.type.v1 import event_pb2

_log = log.get("outbox")

_HEAD = struct.Struct("<IQBQiq")
_SUM = struct.Struct("<I")
_EVENT, _REFUSED = 0, 1
_LAST = bytes(_HEAD.size)
_TAG = bytes([wire.AppendEventsRequest.EVENTS_FIELD_NUMBER << 3 | 2])

READ_BYTES = 64 << 10
"""Bytes handed over at a time, unless a single frame has more."""

KEEP_BYTES = 1 << 20
"""A file that is larger is cut down once everything in it has arrived."""


@dataclass(frozen=True)
class Parcel:
    """Events to hand over in one call."""

    content: bytes
    """The events as the field `events` of an `AppendEventsRequest`."""

    count: int
    """How many they are."""

    end: int
    """Where in the file they end."""

    first: int = 0
    """Number of the first, as the file has it."""


@dataclass(frozen=True)
class _Frame:
    number: int
    kind: int
    event: bytes
    """The event with its time, epoch and step."""

    count: int
    """Events of a refused commit; 1 for an event."""

    end: int
    """Where the frame ends."""


class Outbox:
    """The file, and how much of it has arrived."""

    def __init__(self, path: Path | None, next_number: int, explain: Callable[[str], bytes]) -> None:
        """Opens the file and takes over what an earlier worker left in it.

        Args:
            path: The run's file; another one is used while an earlier worker still holds it. None makes a
                temporary file.
            next_number: The number that the trainer service expects next.
            explain: Makes an event, with its time, that tells people a sentence.

        """
        self._path = path
        self._explain = explain
        self._dropped = 0
        self._number = next_number
        """Number of the next event, if every commit before it succeeds."""
        self._start = self._end = 0
        self._file = self._open(path)
        left, damaged = self._left(next_number)
        if damaged:
            left.append(explain(f"{damaged} bytes of events that a lost worker left behind were damaged"))
        self._begin(left)

    def _open(self, path: Path | None) -> int:
        for place in [] if path is None else [path, path.with_name(f"{path.name}.{os.getpid()}")]:
            try:
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                file = os.open(place, os.O_RDWR | os.O_CREAT, 0o600)
            except OSError as error:
                _log.warning("events wait in a temporary file, %s cannot be used: %s", place.name, error.strerror)
                break
            self._path = place
            if _locked(file):
                return file
            os.close(file)
        self._path = None
        with tempfile.TemporaryFile() as scratch:
            return os.dup(scratch.fileno())

    def _left(self, next_number: int) -> tuple[list[bytes], int]:
        """Reads the events that earlier workers left, and tells how many bytes are damaged."""
        data = os.pread(self._file, os.fstat(self._file).st_size, 0)
        frames = list(_frames(data))
        refused: list[tuple[int, int]] = []
        left: list[bytes] = []
        for frame in reversed(frames):
            # A refusal moves up what was emitted before it became known.
            number = frame.number - sum(count for first, count in refused if first < frame.number)
            if frame.kind == _REFUSED:
                refused.append((frame.number, frame.count))
            elif number >= next_number:
                left.append(frame.event)
        left.reverse()
        rest = data[frames[-1].end if frames else 0 :]
        # What follows the last frame is from before.
        return left, 0 if rest.startswith(_LAST) else len(rest)

    def _begin(self, events: list[bytes]) -> None:
        """Writes the file anew, in one go: whoever dies meanwhile leaves either the old events or these."""
        data = b"".join(_frame(_EVENT, self._number + index, event) for index, event in enumerate(events))
        os.pwrite(self._file, data + _LAST, 0)
        os.ftruncate(self._file, len(data) + len(_LAST))
        self._number += len(events)
        self._end = len(data)

    def append(self, event: bytes, time_ns: int, epoch: int, step: int) -> None:
        """Adds an event with one write; on a full disk it is dropped, which is said once there is space.

        Args:
            event: The event's bytes.
            time_ns: When it happened, nanoseconds since 1970; 0 if the event says so itself.
            epoch: Epoch it belongs to; 0 if the event says so itself.
            step: Optimizer steps taken; 0 if the event says so itself.

        """
        if self._dropped and not self._said():
            self._dropped += 1
        elif self._write(_EVENT, self._number, event, time_ns, epoch, step):
            self._number += 1
        else:
            self._dropped += 1

    def _said(self) -> bool:
        """Tells people what was dropped, if there is space for that now."""
        line = self._explain(f"{self._dropped} events were dropped, because the worker's disk was full")
        if not self._write(_EVENT, self._number, line):
            return False
        self._number += 1
        self._dropped = 0
        return True

    def _write(self, kind: int, number: int, event: bytes, time_ns: int = 0, epoch: int = 0, step: int = 0) -> bool:
        # As `_frame` does it, without the call.
        frame = _HEAD.pack(len(event), number, kind, time_ns, epoch, step) + event
        frame += _SUM.pack(zlib.crc32(frame))
        try:
            written = os.pwrite(self._file, frame + _LAST, self._end)
        except OSError as error:
            if not self._dropped:
                _log.error("the outbox takes no events, they are dropped: %s", error.strerror)
            return False
        if written < len(frame) + len(_LAST):
            return False
        self._end += len(frame)
        return True

    def reserve(self, count: int) -> int:
        """Counts events that are not kept here, because nobody is to repeat them; returns their first number."""
        first = self._number
        self._number += count
        return first

    def refused(self, first: int, count: int) -> None:
        """Takes numbers back that the service did not take; events which came meanwhile move up."""
        self._number -= count
        if self._start < self._end:
            self._write(_REFUSED, first, b"", step=count)

    @property
    def end(self) -> int:
        """Where in the file the newest event ends."""
        return self._end

    def next(self, limit: int) -> Parcel:
        """Reads the next events up to a place in the file; none when there are none."""
        contents, count, first, end = [], 0, 0, self._start
        for frame in _frames(self._read(limit)):
            if frame.kind == _EVENT:
                contents.append(field(frame.event))
                count += 1
                first = first or frame.number
            end = self._start + frame.end
        if end == self._start < limit:
            lost = self._explain(f"{limit - end} bytes of events were damaged on the worker's disk")
            return Parcel(field(lost), 1, limit)
        return Parcel(b"".join(contents), count, end, first)

    def _read(self, limit: int) -> bytes:
        """Reads whole frames where it can, at least one."""
        data = os.pread(self._file, min(READ_BYTES, limit - self._start), self._start)
        if len(data) >= _HEAD.size:
            length = _HEAD.unpack_from(data)[0] + _HEAD.size + _SUM.size
            if len(data) < length <= limit - self._start:
                data = os.pread(self._file, length, self._start)
        return data

    def arrived(self, parcel: Parcel, *, may_empty: bool) -> None:
        """Notes that events have arrived; the file begins anew only while nobody remembers a place in it."""
        self._start = parcel.end
        if may_empty and self._start == self._end > 0:
            if self._end > KEEP_BYTES:
                os.ftruncate(self._file, 0)
            self._start = self._end = 0
            # Until the next event comes, nothing here is to be handed over again.
            os.pwrite(self._file, _LAST, 0)

    def close(self) -> None:
        """Closes the file, and removes it when everything in it has arrived."""
        if self._path is not None and self._start == self._end:
            self._path.unlink(missing_ok=True)
        os.close(self._file)


def field(event: bytes) -> bytes:
    """Writes an event's bytes as the field `events` of an `AppendEventsRequest`: a tag, the length, the bytes."""
    length = len(event)
    head = bytearray(_TAG)
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + event


def _stamped(event: bytes, time_ns: int, epoch: int, step: int) -> bytes:
    """Adds what was known when an event was emitted; fields of a message may be written one behind the other."""
    stamp = event_pb2.Event()
    if time_ns:
        stamp.event_time.seconds, stamp.event_time.nanos = divmod(time_ns, 1_000_000_000)
    if epoch or step:
        stamp.epoch, stamp.step = epoch, step
    return event + stamp.SerializeToString()


def _frame(kind: int, number: int, event: bytes) -> bytes:
    frame = _HEAD.pack(len(event), number, kind, 0, 0, 0) + event
    return frame + _SUM.pack(zlib.crc32(frame))


def _frames(data: bytes) -> Iterator[_Frame]:
    """Reads frames up to the first that is torn or damaged, or to the end."""
    place = 0
    while place + _HEAD.size <= len(data):
        length, number, kind, time_ns, epoch, step = _HEAD.unpack_from(data, place)
        end = place + _HEAD.size + length
        # Zeros, as they follow the last frame, are no frame: numbers begin at 1.
        if not number or end + _SUM.size > len(data) or zlib.crc32(data[place:end]) != _SUM.unpack_from(data, end)[0]:
            return
        event = data[place + _HEAD.size : end]
        place = end + _SUM.size
        if kind == _EVENT:
            yield _Frame(number, kind, _stamped(event, time_ns, epoch, step), 1, place)
        else:
            yield _Frame(number, kind, b"", step, place)


def _locked(file: int) -> bool:
    """Locks a file for this process, unless another one has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
