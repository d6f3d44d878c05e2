"""Moves what the write-ahead log has gathered into the database, beside the writer.

SQLite would do it within a commit, and whoever waits for that commit would wait for all of it. Here a thread does
the bulk while commits go on; what they add meanwhile is little, and the writer moves it itself, so that the log
can begin anew.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from tunevane import log
from tunevane_tracker.database import connect

_log = log.get("tracker.checkpoint")

BYTES = 12 << 20
"""Bytes of events, and a page for each batch of them, after which the log is moved."""

BATCH_BYTES = 4096

_MOVE = "PRAGMA wal_checkpoint(PASSIVE)"


class Checkpointer:
    """The thread; the other methods are called by the writer."""

    def __init__(self, path: Path) -> None:
        """Starts the thread, with a connection of its own."""
        self._connection = connect(path)
        self._bytes = 0
        self._under_way = False
        self._asked = threading.Event()
        self._moved = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="journal-checkpoint", daemon=True)
        self._thread.start()

    def committed(self, writer: sqlite3.Connection, batches: int, size_bytes: int) -> None:
        """Hears of a commit, and finishes what the thread has begun."""
        self._bytes += batches * BATCH_BYTES + size_bytes
        if self._moved.is_set():
            _move(writer)
            self._moved.clear()
            self._bytes, self._under_way = 0, False
        elif self._bytes > BYTES and not self._under_way:
            self._under_way = True
            self._asked.set()

    def close(self) -> None:
        """Ends the thread."""
        self._closed = True
        self._asked.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            if self._closed:
                return
            _move(self._connection)
            self._moved.set()


def _move(connection: sqlite3.Connection) -> None:
    """Moves what it can; what is left, for example because the disk is full, stays in the log, where it is safe."""
    try:
        connection.execute(_MOVE).fetchall()
    except sqlite3.Error as error:
        _log.warning("the log was not moved into the database: %s", error)
