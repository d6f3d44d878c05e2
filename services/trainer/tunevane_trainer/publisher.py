"""Who publishes this trainer's events to the tracker: a number that grows with each start."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path


class Publisher:
    """The trainer service as the tracker knows it; remembered in a small file."""

    def __init__(self, path: Path, clock: Callable[[], int] = time.time_ns) -> None:
        """Reads the file and takes the next number.

        The number is the time, so that a service that was set up from a backup beats the one it replaces; and it is
        larger than the one before, so that a clock that was set back does not lock a service out.
        """
        self._path = path
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            before, self.journal_id = int(known["epoch"]), str(known["journal_id"])
        except (OSError, ValueError, KeyError, TypeError):
            before, self.journal_id = 0, ""
        self.epoch = max(before + 1, clock() // 1_000_000)
        """Larger than that of any publisher that was started before."""
        self._save()

    def remember(self, journal_id: str) -> None:
        """Keeps the name of the tracker's memory."""
        self.journal_id = journal_id
        self._save()

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._path.with_suffix(".new")
        with scratch.open("w", encoding="utf-8") as file:
            json.dump({"epoch": self.epoch, "journal_id": self.journal_id}, file)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._path)
