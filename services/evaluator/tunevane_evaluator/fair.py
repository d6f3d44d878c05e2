"""Who is next: the run that has used the device least, so that a flood from one run costs the others one turn."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Waiting = TypeVar("Waiting")


class FairQueue(Generic[Waiting]):
    """One line for each run; start-time fair queueing (Goyal, Vin and Cheng, 1996) by measured seconds."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Waiting]] = {}
        # Seconds that a run has used; a run that comes, or comes again, starts where the others are.
        self._used: dict[str, float] = {}
        self._now = 0.0

    def __len__(self) -> int:
        """Counts who waits."""
        return sum(map(len, self._lines.values()))

    def push(self, run: str, one: Waiting) -> None:
        """Puts one at the end of its run's line."""
        self._lines.setdefault(run, deque()).append(one)
        self._used[run] = max(self._used.get(run, 0.0), self._now)

    def pop(self) -> tuple[str, Waiting] | None:
        """Takes the first of the run that has used least, with the run's name; None: nobody waits."""
        if not self._lines:
            return None
        # Lines are in the order in which they began, so the run that came first wins a tie.
        run = min(self._lines, key=self._used.__getitem__)
        self._now = self._used[run]
        one = self._lines[run].popleft()
        self._forget(run)
        return run, one

    def used(self, run: str, seconds: float) -> None:
        """Notes how long one of a run had the device."""
        self._used[run] = self._used.get(run, self._now) + seconds
        # Who has used less than the one that was served last would start there anyway.
        for idle in [name for name, used in self._used.items() if used <= self._now and name not in self._lines]:
            del self._used[idle]

    def remove(self, run: str, one: Waiting) -> bool:
        """Takes one that waits no longer out of its line; False: it did not wait."""
        line = self._lines.get(run, ())
        if one not in line:
            return False
        self._lines[run].remove(one)
        self._forget(run)
        return True

    def _forget(self, run: str) -> None:
        if not self._lines[run]:
            del self._lines[run]
