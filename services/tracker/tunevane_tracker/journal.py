"""Keeps every event of every run, durably and once.

The key is (run, sequence): repeated events vanish, missing ones are refused with the number to go on from.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunevane import log
from tunevane.api.type.v1.event_pb2 import Event
from tunevane.errors import NotFoundError, UnavailableError
from tunevane_tracker.batch import Batch, DamagedBatchError, checked
from tunevane_tracker.database import connect, damaged
from tunevane_tracker.ledger import Appended, Ledger
from tunevane_tracker.runs import COLUMNS, TrackedRun, from_row
from tunevane_tracker.salvage import open_or_salvage
from tunevane_tracker.writer import Writer

__all__ = ["Appended", "Journal", "TrackedRun"]

_log = log.get("tracker.journal")

READERS = 4
"""Connections that read at the same time; SQLite's readers do not hinder its writer."""


def _ignore(run: TrackedRun) -> None:
    """Nobody wants to know."""


class Journal:
    """The database of the tracker; every method may be called from any thread."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float],
        max_runs: int = 100_000,
        on_broken: Callable[[], None] = lambda: None,
    ) -> None:
        """Opens the database and starts its writer; of a damaged one, what is readable is taken over.

        Raises:
            ConfigurationError: The file is no database, or one of another version.

        """
        self._on_broken = on_broken
        self.on_mended: Callable[[TrackedRun], None] = _ignore
        """Called in the writer's thread for a run that got events again which damage had taken."""
        connection, self._found = open_or_salvage(path)
        self._ledger = Ledger(clock, max_runs, lambda run: self.on_mended(run), self._rename)
        self.writer = Writer(
            connection,
            path,
            on_broken,
            before_commit=self._ledger.before_commit,
            on_rollback=self._ledger.on_rollback,
        )
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        for _ in range(READERS):
            self._readers.put(connect(path, read_only=True))
        self.id = str(self.query("SELECT value FROM meta WHERE name = 'journal_id'")[0][0])
        """Names this memory; another name than before says that events were lost."""
        self._noticed: set[tuple[int, int]] = set()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Writes what was submitted and closes the database."""
        self.writer.close()
        for _ in range(READERS):
            self._readers.get().close()

    def append(
        self, name: str, uid: str, events: Iterable[Event], config: Mapping[str, object] | None = None
    ) -> Future[Appended]:
        """Stores the next events of a run; they must be numbered without a gap among themselves.

        Returns:
            Raises what `append_batch` says.

        """
        return self.append_batch(name, uid, Batch.from_events(events), config)

    def append_batch(
        self,
        name: str,
        uid: str,
        batch: Batch,
        config: Mapping[str, object] | None = None,
        writer_epoch: int = 0,
    ) -> Future[Appended]:
        """Stores the next events of a run.

        Args:
            name: Run id.
            uid: The run's unique id.
            batch: The events.
            config: What was asked for; the first that is not None is kept.
            writer_epoch: Who publishes; smaller than what the run has heard is refused.

        Returns:
            Done once the events are on disk. Nothing is stored when it raises: `SequenceGapError` when events
            before the first are missing, `AlreadyExistsError` when an event came before with other content (which
            is counted), `StaleWriterError` when somebody who started later publishes the run,
            `ResourceExhaustedError` when there are too many runs, `StorageFullError`, `UnavailableError`.

        """
        return self.writer.submit(
            lambda connection: self._ledger.append(connection, name, uid, batch, config, writer_epoch),
            # It decides before it writes, and what it writes before a refusal for conflicts is meant to stay.
            guarded=False,
            size_bytes=len(batch.content),
        )

    def run(self, name_or_uid: str) -> TrackedRun:
        """Finds a run by uid, else the newest of that name.

        Raises:
            NotFoundError: There is none.

        """
        for column in ("uid", "name"):
            query = f"SELECT {COLUMNS} FROM runs WHERE {column} = ? ORDER BY number DESC LIMIT 1"  # noqa: S608
            rows = self.query(query, (name_or_uid,))
            if rows:
                return from_row(rows[0])
        raise NotFoundError(f"the tracker knows no run '{name_or_uid[:80]}'")

    def runs(self, limit: int) -> list[TrackedRun]:
        """Lists runs: those that run first, then the newest first."""
        query = f"SELECT {COLUMNS} FROM runs ORDER BY ended IS NOT NULL, number DESC LIMIT ?"  # noqa: S608
        return [from_row(row) for row in self.query(query, (limit,))]

    def live(self, ended_after: float, limit: int) -> list[TrackedRun]:
        """Lists runs that have not ended, or ended later than that: the former first, then the newest first."""
        query = (
            f"SELECT {COLUMNS} FROM runs WHERE ended IS NULL OR ended > ? "  # noqa: S608 - constant
            "ORDER BY ended IS NOT NULL, number DESC LIMIT ?"
        )
        return [from_row(row) for row in self.query(query, (ended_after, limit))]

    def count_live(self, ended_after: float) -> int:
        """Counts the runs that `live` lists without a limit."""
        return int(self.query("SELECT count(*) FROM runs WHERE ended IS NULL OR ended > ?", (ended_after,))[0][0])

    def events(self, run: TrackedRun, after_sequence: int, limit: int) -> Sequence[Event]:
        """Reads the next events of a run, at most `limit`.

        Numbers are missing where the disk damaged what was stored; `damage` names them.
        """
        query = "SELECT first, last, checksum, content FROM batches WHERE run = ? AND last > ? ORDER BY last"
        found: list[Event] = []
        with self._reader() as reader:
            # Row by row: how many batches make up the page is not known before.
            for first, last, code, content in reader.execute(query, (run.number, after_sequence)):
                try:
                    events = checked(run.number, first, last, code, content)
                except DamagedBatchError:
                    self._set_aside(run, first, last)
                    continue
                found.extend(events if first > after_sequence else events[after_sequence + 1 - first :])
                if len(found) >= limit:
                    break
        del found[limit:]
        return found

    def damage(self) -> str:
        """Says in one sentence what damage to the disk has taken; empty when there is none."""
        rows = self.query(
            "SELECT r.name, h.first, h.last FROM holes h JOIN runs r ON r.number = h.run ORDER BY r.number, h.first"
        )
        lost = sum(last - first + 1 for _, first, last in rows)
        places = ", ".join(f"runs/{name} {first} to {last}" for name, first, last in rows[:5])
        more = f" and {len(rows) - 5} more places" if len(rows) > 5 else ""
        told = [self._found] if self._found else []
        if rows:
            told.append(f"{lost} events are lost until their trainer sends them again ({places}{more})")
        return "; ".join(told)

    def _rename(self, name: str) -> None:
        self.id = name

    def _set_aside(self, run: TrackedRun, first: int, last: int) -> None:
        with self._lock:
            if (run.number, last) in self._noticed:
                return
            self._noticed.add((run.number, last))
        _log.error("events damaged on disk run=%s first=%d last=%d", run.name, first, last)
        self.writer.submit(lambda connection: self._ledger.set_aside(connection, run, first, last))

    def query(self, sql: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Reads rows for the other parts of the tracker; `Any`, because only the schema knows the types."""
        with self._reader() as reader:
            return list(reader.execute(sql, tuple(values)))

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Lends a connection; a long read delays a short one only when all are lent.

        Raises:
            UnavailableError: The file has damaged pages; a restart takes over what is readable.

        """
        reader = self._readers.get()
        try:
            yield reader
        except sqlite3.DatabaseError as error:
            if not damaged(error):
                raise
            _log.error("database damaged error=%s", error)
            self._on_broken()
            raise UnavailableError(
                "the tracker's database is damaged; a restart takes over what is readable of it"
            ) from error
        finally:
            self._readers.put(reader)
