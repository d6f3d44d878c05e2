"""Where runs are at W&B, for their own logs: the address of an anonymous run claims it, and so is a secret."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from urllib.parse import urlencode

from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.notices import Notices
from tunevane_tracker.sinks.wandb.ladder import Account, Ladder
from tunevane_tracker.sinks.wandb.session import Session
from tunevane_tracker.welcome import LINK_SECONDS, VIEW

LINK = "wandb-link"


class Links:
    """Hands the addresses to those who wait for them."""

    def __init__(self, notices: Notices, ladder: Ladder) -> None:
        """Adds late addresses to the logs by `notices`."""
        self._notices = notices
        self._ladder = ladder
        self._lock = threading.Lock()
        self._futures: dict[str, Future[str | None]] = {}
        self._links: dict[str, str] = {}

    def future(self, run: TrackedRun) -> Future[str | None]:
        """Returns the address of a run, to come; none will come soon when the server cannot be used."""
        future = self._future(run)
        # Many runs may begin while the server does not answer: they do not all wait, one after the other.
        if self._ladder.kind == "offline" or self._ladder.climbing_seconds > LINK_SECONDS:
            self.answer(run, None)
        return future

    def answer(self, run: TrackedRun, link: str | None) -> None:
        """Tells those who wait; later answers are not heard."""
        future = self._future(run)
        with self._lock:
            if not future.done():
                future.set_result(link)

    def found(self, run: TrackedRun, url: str, account: Account) -> None:
        """Takes the address of a run that was opened; empty when it has none."""
        link = f"{url}?{urlencode({'apiKey': account.key})}" if url and account.kind == "anonymous" else url
        with self._lock:
            self._links[run.uid] = link
        self.answer(run, link or None)

    def tell_late(self, run: TrackedRun, session: Session) -> None:
        """Adds the address to a log that has been told another one before this one was known."""
        with self._lock:
            link = self._links.get(run.uid, "")
        if not link or session.offline:
            return
        told = self._notices.text(run, VIEW)
        if told is not None:
            if link not in told:
                # A kind for each place: a run can move when its anonymous account is gone.
                self._notices.add(run, f"{LINK} {session.entity}", f"Weights & Biases has the run at {link}").result()
            with self._lock:
                self._links.pop(run.uid, None)

    def forget(self, run: TrackedRun) -> None:
        """Lets go of a run that has ended; who asks now gets no address."""
        self.answer(run, None)
        with self._lock:
            self._futures.pop(run.uid, None)
            self._links.pop(run.uid, None)

    def _future(self, run: TrackedRun) -> Future[str | None]:
        with self._lock:
            return self._futures.setdefault(run.uid, Future())
