"""The W&B sink: starts a process for each run, feeds it, and starts over when it dies."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from tunevane import log
from tunevane.api.type.v1.event_pb2 import Event
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.sinks.context import SinkContext
from tunevane_tracker.sinks.port import SinkDiedError, SinkUnavailableError
from tunevane_tracker.sinks.process import ChildDiedError
from tunevane_tracker.sinks.wandb.graphql import AwayError, RefusedError, check_key
from tunevane_tracker.sinks.wandb.ladder import Ladder
from tunevane_tracker.sinks.wandb.links import Links
from tunevane_tracker.sinks.wandb.opening import Opener, PackageMissingError
from tunevane_tracker.sinks.wandb.rows import CALLBACK, options
from tunevane_tracker.sinks.wandb.session import Session

_log = log.get("tracker.wandb")

CHECK_SECONDS = 300.0
"""How often the server is asked whether the rows of a run under way arrive."""

IDLE_SECONDS = 600.0
"""A run that has been silent for longer gives its process up to another one that waits; it may have been left."""

_SILENT = frozenset({"log_written", "evaluation_reported"})
"""Kinds of events that mean nothing to W&B; they may follow the end of a run."""


def sink(context: SinkContext) -> WandbSink:
    """Makes the sink for a tracker."""
    return WandbSink(context)


class WandbSink:
    """Mirrors the runs that ask for it."""

    name = "wandb"
    marker = CALLBACK

    def __init__(self, context: SinkContext, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Starts nothing yet."""
        config = context.config
        self.workers = min(config.wandb_processes, 4)
        self._config = config
        self._cursors = context.cursors
        self._offer = context.offer
        self._monotonic = monotonic
        self._home = config.state_dir / "wandb"
        self._ladder = Ladder(
            self._home,
            context.environ,
            monotonic,
            offline=config.wandb == "offline",
            retry_seconds=config.wandb_retry_seconds,
        )
        self._links = Links(context.notices, self._ladder)
        self._opener = Opener(context, self._home, self._ladder, self._links)
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._opening = 0
        self._careful: set[str] = set()
        self._kept: dict[str, tuple[TrackedRun, int]] = {}
        self._again: set[str] = set()
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._retry_for_ever, name="wandb-retry", daemon=True)

    def start(self) -> None:
        """Begins to try the server again for runs that could only be kept offline; needs `offer` to work."""
        if self._config.wandb == "auto":
            for run in self._cursors.unfinished(self.name, CALLBACK):
                self._kept[run.uid] = (run, run.acked)
            self._watch.start()

    @property
    def mode(self) -> str:
        """How W&B is used; empty before the first run needed it."""
        return "off" if self._config.wandb == "off" or self._opener.missing else self._ladder.kind

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by the uid of the run."""
        with self._lock:
            return {uid: session.process.pid for uid, session in self._sessions.items()}

    def wants(self, run: TrackedRun) -> bool:
        """A run is mirrored if one of its callbacks is `wandb-logger`."""
        return self._config.wandb != "off" and options(run.config) is not None

    def position(self, run: TrackedRun, delivered: int) -> int:
        """Without a process the run is sent again from the first event, unless all of it has its place."""
        with self._lock:
            session, kept, again = self._sessions.get(run.uid), self._kept.get(run.uid), run.uid in self._again
        if session is not None:
            return session.position
        if again:
            return 0
        if self._opener.missing:
            return delivered
        done = kept[1] if kept is not None else self._cursors.get(self.name, run).finished
        return max(done, delivered) if done else 0

    def link(self, run: TrackedRun) -> Future[str | None]:
        """Returns what will be the address of the run's page at W&B; None when there is none, or not soon."""
        return self._links.future(run)

    def deliver(self, run: TrackedRun, events: Sequence[Event], through: int) -> None:
        """Hands the next events to the run's process; starts one if there is none."""
        session = self._sessions.get(run.uid)
        if session is None:
            if run.uid not in self._again and self._after_the_end(run, events, through):
                return
            try:
                session = self._open(run)
            except PackageMissingError:
                return
        session.used_seconds = self._monotonic()
        self._links.tell_late(run, session)
        self._still_right(run, session)
        size = 1 if run.uid in self._careful else len(events) or 1
        parts = [events[begin : begin + size] for begin in range(0, len(events), size)] or [events]
        for number, part in enumerate(parts, 1):
            reached = through if number == len(parts) else part[-1].sequence
            if self._send(run, session, part, ends=reached >= run.acked):
                self._finished(run, session, reached)
            session.position = reached

    def put_aside(self, run: TrackedRun, sequence: int) -> None:
        """The event is left out of what is sent from now on."""
        self._careful.discard(run.uid)

    def close(self) -> None:
        """Ends all processes; unfinished runs are sent again after the next start."""
        with self._lock:
            self._stopping.set()
            sessions = list(self._sessions.values())
            self._sessions.clear()
        for session in sessions:
            session.process.kill()
        if self._watch.is_alive():
            self._watch.join()

    def _after_the_end(self, run: TrackedRun, events: Sequence[Event], through: int) -> bool:
        """Takes what follows the end of a run: lines of the log, or a run that went on after all.

        Returns:
            False when the run has not ended, and there is more to do now.

        """
        kept, finished = run.uid in self._kept, self._cursors.get(self.name, run).finished
        if not kept and not finished:
            return False
        if any(event.WhichOneof("kind") not in _SILENT for event in events):
            self._again.add(run.uid)
        elif kept:
            self._kept[run.uid] = (run, through)
        else:
            self._cursors.finish(self.name, run, through).result()
        return True

    def _open(self, run: TrackedRun) -> Session:
        self._make_room()
        with self._lock:
            if self._stopping.is_set():
                raise SinkUnavailableError("the tracker is stopping")
            if len(self._sessions) + self._opening >= self._config.wandb_processes:
                self._links.answer(run, None)
                raise SinkUnavailableError(f"waits until one of {len(self._sessions)} other runs has ended")
            self._opening += 1
        try:
            session = self._opener.open(run, online_before=bool(self._cursors.get(self.name, run).url))
        finally:
            with self._lock:
                self._opening -= 1
        session.checked_seconds = session.used_seconds = self._monotonic()
        with self._lock:
            self._sessions[run.uid] = session
            self._again.discard(run.uid)
            self._kept.pop(run.uid, None)
            stopping = self._stopping.is_set()
        if stopping:
            self._end(run, session)
            raise SinkUnavailableError("the tracker is stopping")
        return session

    def _make_room(self) -> None:
        """Ends the process of the run that has been silent for longest, if all processes are taken."""
        with self._lock:
            if len(self._sessions) + self._opening < self._config.wandb_processes:
                return
            uid, session = min(self._sessions.items(), key=lambda each: each[1].used_seconds, default=("", None))
            if session is None or self._monotonic() - session.used_seconds < IDLE_SECONDS:
                return
            del self._sessions[uid]
        # It is started again, and sent what there is by then, when there is news of the run.
        session.process.kill()

    def _still_right(self, run: TrackedRun, session: Session) -> None:
        """Starts over when the server is back, or when rows do not arrive there."""
        if session.offline:
            if self._ladder.account(session.account.base_url).kind != "offline":
                self._end(run, session)
                raise SinkUnavailableError("W&B can be reached now: the run is sent from its first event")
        elif self._monotonic() - session.checked_seconds > CHECK_SECONDS:
            try:
                session.check(session.rows_at_check, None)
            except (SinkUnavailableError, RefusedError) as error:
                self._lost(run, session, error)
            session.checked_seconds, session.rows_at_check = self._monotonic(), session.rows_sent

    def _send(self, run: TrackedRun, session: Session, events: Sequence[Event], *, ends: bool) -> bool:
        try:
            return session.send(events, self._config.wandb_finish_seconds if ends else None)
        except ChildDiedError as error:
            alone = run.uid in self._careful
            self._end(run, session)
            if not session.offline:
                self._excuse(session)
            # Next time one event at a time, to learn which one it is.
            self._careful.add(run.uid)
            # The end of a run waits for the server, so it is never the event that is to blame.
            guilty = events[0].sequence if alone and events and session.end is None else 0
            raise SinkDiedError(guilty, str(error)) from error

    def _excuse(self, session: Session) -> None:
        """Blames the server for a death, not an event, when it is away or no longer takes the key."""
        try:
            check_key(session.account.base_url, session.account.key)
        except AwayError as error:
            raise SinkUnavailableError(f"W&B {error}") from error
        except RefusedError as error:
            self._ladder.forget()
            raise SinkUnavailableError("W&B no longer takes the key") from error

    def _finished(self, run: TrackedRun, session: Session, sequence: int) -> None:
        session.process.wait(10.0)
        if session.offline:
            with self._lock:
                self._kept[run.uid] = (run, sequence)
        else:
            try:
                session.check(session.rows_sent, session.last_step)
            except (SinkUnavailableError, RefusedError) as error:
                self._lost(run, session, error)
            self._links.tell_late(run, session)
            self._cursors.finish(self.name, run, sequence).result()
            shutil.rmtree(self._opener.folder(run), ignore_errors=True)
        with self._lock:
            self._sessions.pop(run.uid, None)
            self._careful.discard(run.uid)
        self._links.forget(run)
        _log.info("run mirrored run=%s mode=%s", run.name, session.account.kind)

    def _lost(self, run: TrackedRun, session: Session, error: Exception) -> None:
        self._end(run, session)
        if isinstance(error, RefusedError):
            self._ladder.forget()
            raise SinkUnavailableError("W&B no longer takes the key") from error
        raise error

    def _end(self, run: TrackedRun, session: Session) -> None:
        with self._lock:
            self._sessions.pop(run.uid, None)
        session.process.kill()

    def _retry_for_ever(self) -> None:
        while True:
            try:
                self._retry()
            except Exception as error:
                # The class only: nobody knows what a message holds.
                _log.warning("wandb cannot be tried again: %s", type(error).__name__)
            if self._stopping.wait(self._config.wandb_retry_seconds):
                return

    def _retry(self) -> None:
        """Sends the runs that were kept offline, if the server can be used now."""
        with self._lock:
            kept: Mapping[str, tuple[TrackedRun, int]] = dict(self._kept)
        if not kept or self._opener.account_now().kind == "offline":
            return
        for uid, (run, _) in kept.items():
            with self._lock:
                self._again.add(uid)
            self._offer(run)
