"""Keeps a worker's events in a file until the trainer service has them, so that emitting one is a single write.

A frame is `[length, crc32]`, then `[number, count, kind]` and the events, as they travel; an empty frame follows the
last. The file is written from its start again whenever all of it has arrived: the pages of a file that does not grow
are there already, which is most of what a write costs. What it holds survives the death of the process: the run's
next worker on this machine hands it over first.

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

_log = log.get("outbox")

_HEAD = struct.Struct("<II")
_ABOUT = struct.Struct("<QIB")
_EVENTS, _REFUSED = 0, 1
_LAST = bytes(_HEAD.size)

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
    count: int
    kind: int
    content: bytes
    end: int


class Outbox:
    """The file, and how much of it has arrived."""

    def __init__(self, path: Path | None, next_number: int, explain: Callable[[str], bytes]) -> None:
        """Opens the file and takes over what an earlier worker left in it.

        Args:
            path: The run's file; another one is used while an earlier worker still holds it. None makes a
                temporary file.
            next_number: The number that the trainer service expects next.
            explain: Makes the content of one event that tells people a sentence.

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
            left.append((explain(f"{damaged} bytes of events that a lost worker left behind were damaged"), 1))
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

    def _left(self, next_number: int) -> tuple[list[tuple[bytes, int]], int]:
        """Reads what earlier workers left, and tells how many bytes of it are damaged."""
        size_bytes = os.fstat(self._file).st_size
        frames = list(_frames(os.pread(self._file, size_bytes, 0)))
        refused: list[tuple[int, int]] = []
        left: list[tuple[bytes, int]] = []
        for frame in reversed(frames):
            # A refusal moves up what was emitted before it became known.
            number = frame.number - sum(count for first, count in refused if first < frame.number)
            if frame.kind == _REFUSED:
                refused.append((frame.number, frame.count))
            elif number >= next_number:
                left.append((frame.content, frame.count))
        left.reverse()
        rest = os.pread(self._file, size_bytes, frames[-1].end if frames else 0)
        # What follows the last frame is from before.
        return left, 0 if rest.startswith(_LAST) else len(rest)

    def _begin(self, events: list[tuple[bytes, int]]) -> None:
        """Writes the file anew, in one go: whoever dies meanwhile leaves either the old events or these."""
        frames = []
        for content, count in events:
            frames.append(_frame(_EVENTS, self._number, content, count))
            self._number += count
        data = b"".join(frames)
        os.pwrite(self._file, data + _LAST, 0)
        os.ftruncate(self._file, len(data) + len(_LAST))
        self._end = len(data)

    def append(self, content: bytes, count: int) -> None:
        """Adds events with one write; on a full disk they are dropped, which is said once there is space."""
        if self._dropped and not self._said():
            self._dropped += count
        elif self._write(_EVENTS, self._number, content, count):
            self._number += count
        else:
            self._dropped += count

    def _said(self) -> bool:
        """Tells people what was dropped, if there is space for that now."""
        line = self._explain(f"{self._dropped} events were dropped, because the worker's disk was full")
        if not self._write(_EVENTS, self._number, line, 1):
            return False
        self._number += 1
        self._dropped = 0
        return True

    def _write(self, kind: int, number: int, content: bytes, count: int) -> bool:
        frame = _frame(kind, number, content, count) + _LAST
        try:
            written = os.pwrite(self._file, frame, self._end)
        except OSError as error:
            if not self._dropped:
                _log.error("the outbox takes no events, they are dropped: %s", error.strerror)
            return False
        if written < len(frame):
            return False
        self._end += written - len(_LAST)
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
            self._write(_REFUSED, first, b"", count)

    @property
    def end(self) -> int:
        """Where in the file the newest event ends."""
        return self._end

    def next(self, limit: int) -> Parcel:
        """Reads the next events up to a place in the file; none when there are none."""
        contents, count, first, end = [], 0, 0, self._start
        for frame in _frames(self._read(limit)):
            if frame.kind == _EVENTS:
                contents.append(frame.content)
                count += frame.count
                first = first or frame.number
            end = self._start + frame.end
        if end == self._start < limit:
            lost = self._explain(f"{limit - end} bytes of events were damaged on the worker's disk")
            return Parcel(lost, 1, limit)
        return Parcel(b"".join(contents), count, end, first)

    def _read(self, limit: int) -> bytes:
        """Reads whole frames where it can, at least one."""
        data = os.pread(self._file, min(READ_BYTES, limit - self._start), self._start)
        if len(data) >= _HEAD.size:
            length = _HEAD.unpack_from(data)[0] + _HEAD.size
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


def _frame(kind: int, number: int, content: bytes, count: int) -> bytes:
    body = _ABOUT.pack(number, count, kind) + content
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def _frames(data: bytes) -> Iterator[_Frame]:
    """Reads frames up to the first that is torn or damaged."""
    place = 0
    while place + _HEAD.size <= len(data):
        length, crc = _HEAD.unpack_from(data, place)
        body = data[place + _HEAD.size : place + _HEAD.size + length]
        # Zeros, as a power cut leaves them, would be an empty frame with the right checksum.
        if len(body) < max(length, _ABOUT.size) or zlib.crc32(body) != crc:
            return
        place += _HEAD.size + length
        number, count, kind = _ABOUT.unpack_from(body)
        yield _Frame(number, count, kind, body[_ABOUT.size :], place)


def _locked(file: int) -> bool:
    """Locks a file for this process, unless another one has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
