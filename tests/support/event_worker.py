"""A worker's reporter in a process of its own: emits numbered lines, and commits three at a time after every fifty.

Writes to stdout how many lines were emitted, now and then. Goes on until it is killed, or until `limit` lines.
"""

from __future__ import annotations

import sys
from pathlib import Path

from support.trainer_parts import RUN
from tunevane.rpc.channel import connect
from tunevane_trainer.training.reporter import Reporter, log_event


def work(folder: Path, target: str, name: str, next_sequence: int, limit: int) -> None:
    """Emits and commits."""
    with connect(target) as channel:
        reporter = Reporter(channel, RUN, name, folder / "outbox")
        reporter.start(next_sequence)
        for number in range(1, limit + 1):
            reporter.log(f"{name} {number}")
            if number % 50 == 0:
                reporter.commit([log_event(f"{name} commit {number} {part}") for part in range(3)])
            if number % 7 == 0:
                sys.stdout.write(f"{number}\n")
                sys.stdout.flush()
        reporter.flush()
        reporter.close()


if __name__ == "__main__":
    work(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
