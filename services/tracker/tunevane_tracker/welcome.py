"""Tells a run's log, once, where the run can be looked at."""

from __future__ import annotations

import threading
from typing import Protocol

from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.notices import Notices

LINK_SECONDS = 2.0
"""How long a run waits for the link of W&B before it gets the tracker's own."""

VIEW = "view"


class LinkSource(Protocol):
    """Somebody who may know a better page for a run."""

    def wants(self, run: TrackedRun) -> bool:
        """Tells whether there may be a link."""

    def link(self, run: TrackedRun, timeout_seconds: float) -> str | None:
        """Waits for the link; None when there is none, or not in time."""


class Welcome:
    """Writes the line `View run at ...`."""

    def __init__(self, notices: Notices, links: LinkSource, base_url: str) -> None:
        """Uses the page below `base_url` for a run without a better link."""
        self._notices = notices
        self._links = links
        self._base_url = base_url
        self._greeted: set[str] = set()
        self._lock = threading.Lock()

    def greeted(self, run: TrackedRun) -> bool:
        """Tells whether `greet` was called for a run."""
        with self._lock:
            return run.uid in self._greeted

    def greet(self, run: TrackedRun) -> None:
        """Adds the line unless the run has it; a run's first call waits for the link, later ones do not."""
        with self._lock:
            if run.uid in self._greeted:
                return
            self._greeted.add(run.uid)
        if self._notices.has(run, VIEW):
            return
        link = self._links.link(run, LINK_SECONDS) if self._links.wants(run) else None
        self._notices.add(run, VIEW, f"View run at {link or f'{self._base_url}/runs/{run.name}'}").result()
