"""The local services of a test, and the processes in them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tunevane import local
from tunevane.local.stack import Stack


@contextmanager
def local_services(home: Path) -> Iterator[Stack]:
    """Starts the three services on a folder of their own, and ends them."""
    # Nothing of a test may look for an account or the network.
    settings = {"TUNEVANE_HOME": str(home), "TUNEVANE_TRACKER_WANDB": "offline"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield local.ensure()
    finally:
        local.stop()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def process(stack: Stack, *words: str) -> psutil.Process:
    """Finds the one process below the supervisor whose command line holds all the words."""
    found = [
        child
        for child in psutil.Process(stack.pid).children(recursive=True)
        if all(word in child.cmdline() for word in words)
    ]
    assert len(found) == 1, f"{len(found)} processes with {words}"
    return found[0]


def kill(stack: Stack, *words: str) -> None:
    """Sends SIGKILL to the process whose command line holds all the words, and waits for its end."""
    victim = process(stack, *words)
    victim.send_signal(signal.SIGKILL)
    psutil.wait_procs([victim], timeout=10)


WORKER = ("-m", "tunevane_trainer.training")
EVALUATOR = ("serve", "evaluator")
TRAINER = ("serve", "trainer")
TRACKER = ("serve", "tracker")
EDGE = ("-m", "tunevane_evaluator.index.edge")
