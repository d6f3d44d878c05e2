"""Holds the folded states of runs in memory, and folds the rest in from the journal when asked."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TypeVar

from tunevane.api.type.v1.event_pb2 import Event
from tunevane_tracker.fold import fold
from tunevane_tracker.journal import Journal, TrackedRun
from tunevane_tracker.state import RunState

T = TypeVar("T")

PAGE = 1000
"""Events read from the journal at a time."""

MAX_STATES = 2000
"""States kept; one that is needed again is folded again."""


class Book:
    """The states of runs; a state is only looked at while its lock is held."""

    def __init__(self, journal: Journal) -> None:
        """Starts empty: the journal has everything."""
        self._journal = journal
        self._lock = threading.RLock()
        self._states: OrderedDict[str, RunState] = OrderedDict()

    def add(self, run: TrackedRun, events: Iterable[Event]) -> None:
        """Folds events of a run in, after those before them."""
        with self._lock:
            fold(events, self._state(run), over_holes=True)

    def read(self, run: TrackedRun, look: Callable[[RunState], T], *, fresh: bool = True) -> T:
        """Shows the state of a run to `look`, which must not keep it.

        Args:
            run: Which.
            look: Takes what it needs.
            fresh: Whether everything in the journal is folded in first.

        """
        while True:
            # The lock is let go between pages: a long run does not keep others waiting.
            with self._lock:
                state = self._state(run)
                events = self._journal.events(run, state.sequence, PAGE) if fresh else []
                fold(events, state, over_holes=True)
                if len(events) < PAGE:
                    return look(state)

    def forget(self, run: TrackedRun) -> None:
        """Lets a run be folded anew, because events came that were missing."""
        with self._lock:
            self._states.pop(run.uid, None)

    def sequence(self, run: TrackedRun) -> int:
        """Tells up to which number a run's events are folded in."""
        with self._lock:
            state = self._states.get(run.uid)
            return 0 if state is None else state.sequence

    def _state(self, run: TrackedRun) -> RunState:
        state = self._states.pop(run.uid, None)
        self._states[run.uid] = state = RunState() if state is None else state
        while len(self._states) > MAX_STATES:
            self._states.popitem(last=False)
        return state
