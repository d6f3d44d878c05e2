"""Brings the journal's events to one sink: in order, each run on its own, again and again until it has them."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tunevane import log
from tunevane_tracker.cursors import Cursors
from tunevane_tracker.journal import Journal, TrackedRun
from tunevane_tracker.sinks.port import Sink, SinkDiedError, SinkUnavailableError

_log = log.get("tracker.delivery")

BATCH = 1000
"""Events handed to a sink at a time."""

GATHER_SECONDS = 0.1
"""How long news of a run gathers before it is delivered: in a flood, less is done for each event."""

FIRST_WAIT_SECONDS = 1.0
LAST_WAIT_SECONDS = 60.0
"""A failed delivery is repeated after 1, 2, 4 … 60 seconds."""


@dataclass
class _Task:
    """A run that may have something for the sink."""

    run: TrackedRun
    failures: int = 0
    working: bool = False
    wanted: bool = False
    queued: bool = False
    delivered: int | None = None


class Delivery:
    """The threads that serve one sink."""

    def __init__(
        self,
        sink: Sink,
        journal: Journal,
        cursors: Cursors,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
        gather_seconds: float = GATHER_SECONDS,
    ) -> None:
        """Starts the threads."""
        self.sink = sink
        self.restarts = 0
        self._journal = journal
        self._cursors = cursors
        self._monotonic = monotonic
        self._first_wait_seconds = first_wait_seconds
        self._gather_seconds = gather_seconds
        self._tasks: dict[str, _Task] = {}
        self._queue: list[tuple[float, int, _Task]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"sink-{sink.name}-{number}", daemon=True)
            for number in range(sink.workers)
        ]
        for thread in self._threads:
            thread.start()

    def offer(self, run: TrackedRun) -> None:
        """Says that a run has news; wants it delivered unless the sink does not mirror this run."""
        if not self.sink.wants(run):
            return
        with self._changed:
            task = self._tasks.setdefault(run.uid, _Task(run))
            task.run, task.wanted = run, True
            if not task.queued and not task.working:
                self._enqueue(task, self._gather_seconds)

    def lag(self) -> int:
        """Counts events that wait for the sink."""
        with self._changed:
            tasks = [task for task in self._tasks.values() if task.wanted or task.working]
        if any(task.delivered is None for task in tasks):
            # Once for all: thousands of runs may wait after a start.
            delivered = self._cursors.delivered(self.sink.name)
            for task in tasks:
                if task.delivered is None:
                    task.delivered = delivered.get(task.run.number, 0)
        return sum(max(0, task.run.acked - self.sink.position(task.run, task.delivered or 0)) for task in tasks)

    def close(self) -> None:
        """Ends the sink and the threads; a delivery under way is broken off."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.sink.close()
        for thread in self._threads:
            thread.join()

    def _enqueue(self, task: _Task, wait_seconds: float) -> None:
        task.queued = True
        heapq.heappush(self._queue, (self._monotonic() + wait_seconds, next(self._count), task))
        self._changed.notify()

    def _next(self) -> _Task | None:
        """Waits for a run that is due; None at the end."""
        with self._changed:
            while not self._closed:
                wait_seconds = self._queue[0][0] - self._monotonic() if self._queue else 3600.0
                if wait_seconds <= 0.0:
                    _, _, task = heapq.heappop(self._queue)
                    task.working, task.wanted, task.queued = True, False, False
                    return task
                self._changed.wait(wait_seconds)
        return None

    def _work(self) -> None:
        while (task := self._next()) is not None:
            wait_seconds = 0.0
            more = False
            try:
                more = self._deliver(task)
                task.failures = 0
            except SinkUnavailableError as error:
                wait_seconds = self._failed(task, str(error))
            except SinkDiedError as error:
                self.restarts += 1
                wait_seconds = self._died(task, error)
            except Exception as error:
                if not self._closed:
                    _log.exception("delivery failed sink=%s run=%s", self.sink.name, task.run.name)
                wait_seconds = self._failed(task, f"unexpected: {type(error).__name__}")
            with self._changed:
                task.working = False
                if task.wanted or more or wait_seconds > 0.0:
                    task.wanted = True
                    self._enqueue(task, 0.0 if more else max(wait_seconds, self._gather_seconds))
                elif task.run.ended is not None:
                    self._tasks.pop(task.run.uid, None)

    def _deliver(self, task: _Task) -> bool:
        """Delivers the next batch and tells whether there may be more."""
        run = task.run
        if task.delivered is None:
            task.delivered = self._cursors.get(self.sink.name, run).delivered
        position = self.sink.position(run, task.delivered)
        events = self._journal.events(run, position, BATCH)
        if not events:
            return False
        aside = set(self._cursors.put_aside(self.sink.name, run))
        through = events[-1].sequence
        taken = [event for event in events if event.sequence not in aside] if aside else events
        self.sink.deliver(run, taken, through)
        # Back, when the sink noticed that it has lost something.
        task.delivered = self.sink.position(run, through)
        moved = self._cursors.move(self.sink.name, run, task.delivered)
        if len(events) < BATCH:
            # In a backlog nobody waits for the disk: what is delivered again after a crash changes nothing.
            moved.result()
        return True

    def _failed(self, task: _Task, reason: str) -> float:
        if self._closed:
            return 0.0
        task.failures += 1
        if task.failures == 1:
            _log.warning("sink waits sink=%s run=%s reason=%s", self.sink.name, task.run.name, reason)
        self._cursors.set_problem(self.sink.name, task.run, reason)
        return min(self._first_wait_seconds * 2.0 ** (task.failures - 1), LAST_WAIT_SECONDS)

    def _died(self, task: _Task, error: SinkDiedError) -> float:
        if self._closed:
            return 0.0
        if self._cursors.died(self.sink.name, task.run, error.sequence, str(error)).result():
            _log.error(
                "event put aside sink=%s run=%s sequence=%d reason=%s",
                self.sink.name,
                task.run.name,
                error.sequence,
                error,
            )
            self.sink.put_aside(task.run, error.sequence)
            task.failures = 0
            return 0.001
        return self._failed(task, str(error))
