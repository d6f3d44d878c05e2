"""Starts the embedded engine's process, and again when it has died."""

from __future__ import annotations

import select
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tunevane.errors import UnavailableError
from tunevane_evaluator.index.connection import QdrantAddress, QdrantConnection

START_SECONDS = 60.0
"""A machine that is busy imports slowly."""


class EdgeProcess:
    """The embedded engine; one for the whole evaluator."""

    def __init__(self, folder: Path) -> None:
        """Chooses the folder of its shards, which is emptied."""
        self._folder = folder
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._connection: QdrantConnection | None = None
        shutil.rmtree(folder, ignore_errors=True)

    @property
    def pid(self) -> int | None:
        """Process id; None before the first use."""
        return None if self._process is None else self._process.pid

    def connection(self) -> QdrantConnection:
        """Returns a connection to a living engine.

        Raises:
            UnavailableError: It does not start.

        """
        with self._lock:
            if self._process is None or self._process.poll() is not None or self._connection is None:
                self._stop()
                self._start()
            assert self._connection is not None
            return self._connection

    def _start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        shards = tempfile.mkdtemp(dir=self._folder)
        command = [sys.executable, "-m", "tunevane_evaluator.index.edge", shards]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        spoke, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        line = self._process.stdout.readline() if spoke else ""
        try:
            if not line.strip().isdigit():
                raise UnavailableError("the embedded Qdrant engine did not start; its own words are in the log above")
            self._connection = QdrantConnection(QdrantAddress("127.0.0.1", int(line)), self._kill)
            self._connection.check()
        except BaseException:
            self._stop()
            raise

    def _kill(self) -> None:
        """Ends an engine that is busy with what nobody wants any more; the next user starts another."""
        if self._process is not None:
            self._process.kill()
            # Whoever looks next sees that it is gone.
            self._process.wait()

    def _stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            self._process = None

    def close(self) -> None:
        """Ends the process and removes its files."""
        with self._lock:
            self._stop()
            shutil.rmtree(self._folder, ignore_errors=True)
