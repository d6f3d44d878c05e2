"""The sink `jsonl`: a file per run, a JSON object per line, the run first and then every event as it is.

A double is written with as many digits as bring the same bits back; NaN and infinities, which JSON cannot say,
as the texts "NaN", "Infinity" and "-Infinity" (a NaN's other bits are not kept).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf import json_format

from tunevane.api.type.v1.event_pb2 import Event
from tunevane_tracker.journal import TrackedRun

BLOCK_BYTES = 64 * 1024


class JsonLinesWriter:
    """Appends to `<run>.<uid>.jsonl`; a line that a killed process left unfinished is cut off."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        """Writes into `folder`."""
        self._folder = folder

    def path(self, run: TrackedRun) -> Path:
        """Returns where a run's lines are."""
        return self._folder / f"{run.name}.{run.uid}.jsonl"

    def open(self, run: TrackedRun) -> int:
        """Cuts off an unfinished line and reads the number of the last event."""
        # The lines of an anonymous W&B run's log hold the link that claims it.
        file = os.fdopen(os.open(self.path(run), os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        with file:
            end = _end_of_lines(file.fileno())
            file.truncate(end)
            if end == 0:
                file.write(_line({"run": {"name": run.name, "uid": run.uid, "config": run.config}}))
                file.flush()
                os.fsync(file.fileno())
                _sync_folder(self._folder)
                return 0
            last = json.loads(_last_line(file.fileno(), end))
        return int(last.get("sequence", 0))

    def write(self, run: TrackedRun, events: Sequence[Event]) -> None:
        """Appends the events and waits for the disk."""
        lines = b"".join(_line(json_format.MessageToDict(event, preserving_proto_field_name=True)) for event in events)
        # Not made anew when somebody removed it: the process dies of that, and all of the run is written again.
        with self.path(run).open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def close(self, run: TrackedRun) -> None:
        """Nothing is held open."""


def _line(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _end_of_lines(file: int) -> int:
    """Returns the position behind the last whole line."""
    position = os.fstat(file).st_size
    while position > 0:
        start = max(0, position - BLOCK_BYTES)
        found = os.pread(file, position - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def _last_line(file: int, end: int) -> bytes:
    """Returns the last of the lines before `end`, without its line end."""
    line, position = b"", end - 1
    while position > 0:
        start = max(0, position - BLOCK_BYTES)
        block = os.pread(file, position - start, start)
        head, newline, tail = block.rpartition(b"\n")
        if newline:
            return tail + line
        line, position = head + tail + line, start
    return line


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
