"""Tells a run's log, once, where the run can be looked at."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Protocol

from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.notices import Notices

LINK_SECONDS = 1.0
"""How long a run waits for the link of W&B before it gets the tracker's own: the line is there within 2 s."""

VIEW = "view"


class LinkSource(Protocol):
    """Somebody who may know a better page for a run."""

    def wants(self, run: TrackedRun) -> bool:
        """Tells whether there may be a link."""

    def link(self, run: TrackedRun) -> Future[str | None]:
        """Returns the link, to come; None when there is none."""


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

    async def greet(self, run: TrackedRun) -> None:
        """Adds the line unless the run has it; a run's first call waits for the link, later ones do not."""
        with self._lock:
            if run.uid in self._greeted:
                return
            self._greeted.add(run.uid)
        if await asyncio.to_thread(self._notices.has, run, VIEW):
            return
        link = None
        if self._links.wants(run):
            with suppress(TimeoutError):
                # No thread waits: hundreds of runs may begin while W&B does not answer.
                link = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._links.link(run))), LINK_SECONDS)
        text = f"View run at {link or f'{self._base_url}/runs/{run.name}'}"
        await asyncio.wrap_future(self._notices.add(run, VIEW, text))
