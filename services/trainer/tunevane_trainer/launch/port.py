"""The port that launchers implement: start a worker for a run, wait for its end, end it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Assignment:
    """What a worker is told."""

    run: str
    """`runs/{run}`."""

    lease_token: str
    """Secret that lets it write to the run."""

    trainer: str
    """Address of the trainer service."""

    evaluator: str
    """Address of the evaluator service."""


class Worker(Protocol):
    """A worker that was started."""

    async def wait(self) -> int:
        """Waits for its end and returns its exit code; negative is a signal."""

    async def stop(self, grace_seconds: float) -> None:
        """Asks it to stop, and ends it when it has not after the grace."""


class Launcher(Protocol):
    """Starts workers."""

    async def launch(self, assignment: Assignment) -> Worker:
        """Starts a worker and returns at once."""
