"""What is known of a run besides its events."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

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


def identity(number: object, uid: object, name: object) -> int:
    """Returns a checksum of what tells a run from others."""
    return zlib.crc32(f"{number} {uid} {name}".encode(errors="replace"))
