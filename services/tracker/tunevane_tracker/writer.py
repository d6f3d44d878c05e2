"""Does all writes of one SQLite database in one thread, and commits what arrives meanwhile together.

A result is handed out only after the commit reached the disk, so what a caller was told is durable.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar, cast

from tunevane import log
from tunevane.errors import ConfigurationError, StorageFullError, TunevaneError, UnavailableError

T = TypeVar("T")

MAX_GROUP = 256
"""Writes per commit: beyond this the wait for the disk is no longer what costs."""

_log = log.get("tracker.writer")
_Job = tuple[Callable[[sqlite3.Connection], object], "Future[object]"]


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Opens the database; commits are explicit."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    if read_only:
        connection.execute("PRAGMA query_only=1")
    else:
        connection.execute("PRAGMA journal_mode=WAL")
        # An acknowledged event survives a power cut.
        connection.execute("PRAGMA synchronous=FULL")
    return connection


def open_database(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Opens or makes a database and checks that it can be trusted.

    Raises:
        ConfigurationError: It is damaged or of another version; nothing is deleted.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    way_out = f"move {path} (with its -wal and -shm files) aside; the trainer sends the events again"
    try:
        connection = connect(path)
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found not in {0, version}:
            raise ConfigurationError(f"{path} has format {found}, this version reads format {version}; {way_out}")
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise ConfigurationError(f"{path} is damaged ({verdict}); {way_out}")
        connection.executescript(f"BEGIN; {schema}; PRAGMA user_version={version}; COMMIT;")
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(f"{path} cannot be used as the tracker's database ({error}); {way_out}") from error
    return connection


class Writer:
    """The thread that writes."""

    def __init__(self, connection: sqlite3.Connection, path: Path, on_broken: Callable[[], None]) -> None:
        """Starts the thread; `on_broken` is called once when the disk answers with an error of its own."""
        self._connection = connection
        self._path = path
        self._on_broken = on_broken
        self._broken: str | None = None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Runs `work` within the next commit; the future has its result once that is on disk.

        The future raises what `work` raised (nothing of it is kept), `StorageFullError`, or
        `UnavailableError` when the disk fails.
        """
        future: Future[object] = Future()
        self._jobs.put((work, future))
        return cast("Future[T]", future)

    def close(self) -> None:
        """Writes what was submitted and ends."""
        self._jobs.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        open_ = True
        while open_:
            group: list[_Job] = []
            job = self._jobs.get()
            while job is not None:
                group.append(job)
                if len(group) == MAX_GROUP or self._jobs.empty():
                    break
                job = self._jobs.get()
            open_ = job is not None
            if group:
                self._commit(group)

    def _commit(self, group: list[_Job]) -> None:
        done: list[tuple[Future[object], object]] = []
        refused: list[tuple[Future[object], Exception]] = []
        try:
            if self._broken is not None:
                raise UnavailableError(self._broken)
            self._connection.execute("BEGIN IMMEDIATE")
            for work, future in group:
                self._connection.execute("SAVEPOINT job")
                try:
                    done.append((future, work(self._connection)))
                except sqlite3.Error:
                    raise
                except Exception as error:
                    self._connection.execute("ROLLBACK TO job")
                    refused.append((future, error))
                self._connection.execute("RELEASE job")
            self._connection.execute("COMMIT")
        except (sqlite3.Error, TunevaneError) as error:
            self._fail([future for _, future in group], error)
            return
        for future, result in done:
            future.set_result(result)
        for future, refusal in refused:
            future.set_exception(refusal)

    def _fail(self, futures: list[Future[object]], error: Exception) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                _log.exception("rollback failed path=%s", self._path)
        told: TunevaneError
        if isinstance(error, TunevaneError):
            told = error
        elif getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            told = StorageFullError(f"the disk of {self._path} is full; free some space, nothing acknowledged is lost")
        else:
            # After a failed fsync nobody knows what is on disk (fsyncgate): only a restart finds out.
            self._broken = "the tracker's disk failed; it accepts nothing until it is restarted"
            told = UnavailableError(self._broken)
            _log.error("write failed path=%s error=%s", self._path, error)
            self._on_broken()
        for future in futures:
            future.set_exception(told)
