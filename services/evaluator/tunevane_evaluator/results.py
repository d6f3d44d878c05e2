"""Remembered results: an evaluation is computed once, whatever happens to the process."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from tunevane import log
from tunevane.api.evaluator.v1 import evaluator_service_pb2 as wire
from tunevane.errors import ConfigurationError

_log = log.get("results")


class Results:
    """Remembered results by key, on disk. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Opens the file, making it where there is none.

        Raises:
            ConfigurationError: It is no SQLite file of ours.

        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, result BLOB NOT NULL) STRICT")
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise ConfigurationError(
                f"{path} cannot be read ({error}); move it aside, it holds remembered results only"
            ) from error

    def get(self, key: str) -> wire.EvaluationResult | None:
        """Returns a remembered result."""
        with self._lock:
            row = self._db.execute("SELECT result FROM results WHERE key = ?", (key,)).fetchone()
        return None if row is None else wire.EvaluationResult.FromString(row[0])

    def put(self, key: str, result: wire.EvaluationResult) -> None:
        """Remembers a result; where the disk refuses, it is only logged, because the caller still gets the result."""
        try:
            with self._lock:
                self._db.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (key, result.SerializeToString()))
        except sqlite3.OperationalError as error:
            _log.warning("could not remember a result key=%s why=%s", key[:12], error)

    def forget(self, key: str) -> None:
        """Forgets a result whose files are gone."""
        with self._lock:
            self._db.execute("DELETE FROM results WHERE key = ?", (key,))

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()
