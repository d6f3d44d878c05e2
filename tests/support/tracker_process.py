"""A tracker in a process of its own, for tests that kill it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

_SERVE = """
import asyncio, sys
from pathlib import Path
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.service import run

config = TrackerConfig(port=int(sys.argv[2]), http_port=0, state_dir=Path(sys.argv[1]), wandb="off")
asyncio.run(run(config, on_started=lambda port, http_port: print(port, http_port, flush=True)))
"""


class TrackerProcess:
    """The process, and where it answers; after a kill it can be started again at the same place."""

    def __init__(self, folder: Path) -> None:
        """Starts it; `folder` is its state folder."""
        self._folder = folder
        self.port = self.http_port = 0
        self.start()

    def start(self) -> None:
        """Starts it and waits until it answers."""
        command = [sys.executable, "-c", _SERVE, str(self._folder), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port, self.http_port = (int(word) for word in self._process.stdout.readline().split())

    @property
    def target(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        """Ends it as the kernel would."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._end()

    def stop(self) -> None:
        """Ends it as an operator would."""
        self._process.terminate()
        self._end()

    def _end(self) -> None:
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
