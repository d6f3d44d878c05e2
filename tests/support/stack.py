"""The local services of a test, and the processes in them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tunevane import local
from tunevane.local.stack import Stack


@contextmanager
def local_services(home: Path, **settings: str) -> Iterator[Stack]:
    """Starts the three services on a folder of their own, with more settings by variable, and ends them."""
    # Nothing of a test may look for an account or the network.
    settings |= {"TUNEVANE_HOME": str(home), "TUNEVANE_TRACKER_WANDB": "offline"}
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
    """Finds the one process of the stack whose command line holds all the words."""
    below = psutil.Process(stack.pid).children(recursive=True)
    # A worker outlives its trainer, and is nobody's child then.
    orphans = [each for each in psutil.Process(1).children() if _is_ours(each)]
    found = [each for each in [*below, *orphans] if each.is_running() and all(word in _words(each) for word in words)]
    assert len(found) == 1, f"{len(found)} processes with {words}"
    return found[0]


def _is_ours(orphan: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return orphan.environ().get("TUNEVANE_HOME") == os.environ["TUNEVANE_HOME"]
    return False


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


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
