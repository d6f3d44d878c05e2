"""What is known of a run besides its events."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

SEALED = "number, uid, name, acked, newest, ended, conflicts, writer_epoch"
"""What the checksum of a run's row covers, in the order of `seal`."""

COLUMNS = "number, uid, name, config, created, acked, ended, conflicts, newest, writer_epoch"


@dataclass(frozen=True)
class TrackedRun:
    """A run, as the tracker has it."""

    number: int
    """Key within this database."""

    uid: str
    """Unique for all time."""

    name: str
    """Run id, the last part of `runs/{run}`; a deleted run's name can come again with another uid."""

    config: Mapping[str, object]
    """What was asked for; empty while the tracker has not been told."""

    created: float
    """When the first event arrived, Unix seconds."""

    acked: int
    """Every event up to this number is stored."""

    ended: float | None
    """When the tracker took the run's last event, Unix seconds; None while it runs."""

    conflicts: int
    """Events that came again with other content; the first was kept."""

    newest: int = 0
    """Number of the newest stored event; above `acked` where damage left a hole."""

    writer_epoch: int = 0
    """Largest number of a publisher that this run has heard; 0 without any."""


Row = tuple[int, str, str, str | None, float, int, float | None, int, int, int]


def from_row(row: Row) -> TrackedRun:
    """Reads the columns of `COLUMNS`."""
    number, uid, name, config, created, acked, ended, conflicts, newest, writer_epoch = row
    known = json.loads(config or "{}")
    return TrackedRun(number, uid, name, known, created, acked, ended, conflicts, newest, writer_epoch)


def seal(
    number: object,
    uid: object,
    name: object,
    acked: object,
    newest: object,
    ended: object,
    conflicts: object,
    writer_epoch: object,
) -> int:
    """Returns the checksum of a run's row, which tells whether the disk gives back what was written."""
    text = f"{number} {uid} {name} {acked} {newest} {ended} {conflicts} {writer_epoch}"
    return zlib.crc32(text.encode(errors="replace"))
