"""Does all writes of one SQLite database in one thread, and commits what arrives meanwhile together.

A result is handed out only after the commit reached the disk, so what a caller was told is durable.
"""

from __future__ import annotations

import queue
import shutil
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from tunevane import log
from tunevane.errors import StorageFullError, TunevaneError, UnavailableError
from tunevane_tracker.checkpoint import Checkpointer

T = TypeVar("T")

MAX_GROUP = 256
"""Writes per commit: beyond this the wait for the disk is no longer what costs."""

_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE})
"""A write that fails, unlike a sync, leaves no doubt: the transaction is undone, and the next one may succeed."""

_log = log.get("tracker.writer")


@dataclass(frozen=True)
class _Job:
    work: Callable[[sqlite3.Connection], object]
    future: Future[object]
    guarded: bool
    size_bytes: int


def _nothing(connection: sqlite3.Connection) -> None:
    """Leaves the group as it is."""


class Writer:
    """The thread that writes."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        on_broken: Callable[[], None],
        *,
        before_commit: Callable[[sqlite3.Connection], None] = _nothing,
        on_rollback: Callable[[], None] = lambda: None,
    ) -> None:
        """Starts the thread.

        Args:
            connection: What is written to; the thread's own from now on.
            path: Its file.
            on_broken: Called once when the disk answers with an error of its own.
            before_commit: Called last in each group, in the writer's thread.
            on_rollback: Called in the writer's thread after nothing of a group was kept.

        """
        self._connection = connection
        self._path = path
        self._on_broken = on_broken
        self._before_commit = before_commit
        self._on_rollback = on_rollback
        self._broken: str | None = None
        self._checkpointer = Checkpointer(path)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def submit(
        self, work: Callable[[sqlite3.Connection], T], *, guarded: bool = True, size_bytes: int = 0
    ) -> Future[T]:
        """Runs `work` within the next commit; the future has its result once that is on disk.

        Args:
            work: Writes, in the writer's thread.
            guarded: Whether nothing is kept of a work that raises; work that decides before it writes saves
                the two statements that this costs.
            size_bytes: What it is about to write, for the sentence about a full disk.

        Returns:
            Raises what `work` raised, `StorageFullError`, or `UnavailableError` when the disk fails.

        """
        future: Future[object] = Future()
        self._jobs.put(_Job(work, future, guarded, size_bytes))
        return cast("Future[T]", future)

    def close(self) -> None:
        """Writes what was submitted and ends."""
        self._jobs.put(None)
        self._thread.join()
        self._checkpointer.close()
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
            for job in group:
                try:
                    done.append((job.future, self._guarded(job.work) if job.guarded else job.work(self._connection)))
                except sqlite3.Error:
                    raise
                except Exception as error:
                    refused.append((job.future, error))
            self._before_commit(self._connection)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, TunevaneError) as error:
            self._fail(group, error)
            return
        for future, result in done:
            future.set_result(result)
        for future, refusal in refused:
            future.set_exception(refusal)
        self._checkpointer.committed(self._connection, len(group), sum(job.size_bytes for job in group))

    def _guarded(self, work: Callable[[sqlite3.Connection], object]) -> object:
        """Runs a work of which nothing is kept when it raises."""
        self._connection.execute("SAVEPOINT job")
        try:
            return work(self._connection)
        except Exception:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO job")
            raise
        finally:
            if self._connection.in_transaction:
                self._connection.execute("RELEASE job")

    def _fail(self, group: list[_Job], error: Exception) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                _log.exception("rollback failed path=%s", self._path)
        self._on_rollback()
        told: TunevaneError
        if isinstance(error, TunevaneError):
            told = error
        elif getattr(error, "sqlite_errorcode", None) in _FULL:
            told = StorageFullError(self._no_space(sum(job.size_bytes for job in group)))
        else:
            # After a failed fsync nobody knows what is on disk (fsyncgate): only a restart finds out.
            self._broken = "the tracker's disk failed; it accepts nothing until it is restarted"
            told = UnavailableError(self._broken)
            _log.error("write failed path=%s error=%s", self._path, error)
            self._on_broken()
        for job in group:
            job.future.set_exception(told)

    def _no_space(self, size_bytes: int) -> str:
        free = shutil.disk_usage(self._path.parent).free
        return (
            f"the disk of {self._path.name} is full: {size_bytes} bytes of events could not be written, and "
            f"{free} bytes are free on it; free some space or raise its limit, nothing acknowledged is lost"
        )
