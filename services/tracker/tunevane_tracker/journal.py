"""Keeps every event of every run, durably and once.

The key is (run, sequence): repeated events vanish, missing ones are refused with the number to go on from.
"""

from __future__ import annotations

import json
import queue
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from tunevane import log
from tunevane.api.type.v1.event_pb2 import Event
from tunevane.errors import NotFoundError, ResourceExhaustedError, SequenceGapError
from tunevane_tracker.writer import Writer, connect, open_database

_log = log.get("tracker.journal")

VERSION = 1
READERS = 4
"""Connections that read at the same time; SQLite's readers do not hinder its writer."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    config TEXT,
    created REAL NOT NULL,
    acked INTEGER NOT NULL DEFAULT 0,
    conflicts INTEGER NOT NULL DEFAULT 0,
    ended REAL
);
CREATE INDEX IF NOT EXISTS runs_by_name ON runs (name, number);
CREATE TABLE IF NOT EXISTS events (
    run INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (run, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursors (
    sink TEXT NOT NULL,
    run INTEGER NOT NULL,
    delivered INTEGER NOT NULL DEFAULT 0,
    finished INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    died_at INTEGER NOT NULL DEFAULT 0,
    url TEXT NOT NULL DEFAULT '',
    problem TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (sink, run)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS put_aside (
    sink TEXT NOT NULL,
    run INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (sink, run, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notices (
    run INTEGER NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    answered INTEGER,
    PRIMARY KEY (run, kind)
)
"""


@dataclass(frozen=True)
class TrackedRun:
    """What is known of a run besides its events."""

    number: int
    """Key within this database."""

    uid: str
    """Unique for all time."""

    name: str
    """Run id, the last part of `runs/{run}`; a deleted run's name can come again with another uid."""

    config: Mapping[str, object]
    """What was asked for; empty while the tracker has not been told."""

    created: float
    """When the first event arrived, Unix seconds."""

    acked: int
    """Every event up to this number is stored."""

    ended: float | None
    """When the tracker took the run's last event, Unix seconds; None while it runs."""

    conflicts: int
    """Events that came again with other content; the first was kept."""


@dataclass(frozen=True)
class Appended:
    """What became of a batch of events."""

    acked: int
    """Every event up to this number is on disk."""

    stored: int
    """Events that were new."""

    duplicates: int
    """Events that were there already."""

    conflicts: int
    """Duplicates whose content differs from what is stored."""

    run: TrackedRun
    """The run, as it was at the commit."""


_EDGES = frozenset({"run_started", "run_ended"})
_COLUMNS = "number, uid, name, config, created, acked, ended, conflicts"


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
        """Opens the database and starts its writer.

        Raises:
            ConfigurationError: The file is damaged or of another version.

        """
        self._clock = clock
        self._max_runs = max_runs
        self.writer = Writer(open_database(path, SCHEMA, VERSION), path, on_broken)
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        for _ in range(READERS):
            self._readers.put(connect(path, read_only=True))

    def close(self) -> None:
        """Writes what was submitted and closes the database."""
        self.writer.close()
        for _ in range(READERS):
            self._readers.get().close()

    def append(
        self, name: str, uid: str, events: Sequence[Event], config: Mapping[str, object] | None = None
    ) -> Future[Appended]:
        """Stores the next events of a run; they must be numbered without a gap among themselves.

        The future raises `SequenceGapError` when events before the first are missing, and
        `ResourceExhaustedError` when there are too many runs; nothing is stored then.
        """
        rows = [(event.sequence, event.SerializeToString(deterministic=True)) for event in events]
        ends = {event.sequence: event.HasField("run_ended") for event in events if event.WhichOneof("kind") in _EDGES}
        return self.writer.submit(lambda connection: self._append(connection, name, uid, rows, ends, config))

    def _append(
        self,
        connection: sqlite3.Connection,
        name: str,
        uid: str,
        rows: list[tuple[int, bytes]],
        ends: Mapping[int, bool],
        config: Mapping[str, object] | None,
    ) -> Appended:
        run = self._find(connection, "uid = ?", uid)
        expected = 1 if run is None else run.acked + 1
        if rows and rows[0][0] > expected:
            raise SequenceGapError(
                f"events {expected} to {rows[0][0] - 1} of runs/{name} are missing; continue from {expected}",
                {"expected_sequence": str(expected)},
            )
        if run is None:
            run = self._create(connection, name, uid)
        if config is not None and not run.config:
            text = json.dumps(config, sort_keys=True)
            connection.execute("UPDATE runs SET config = ? WHERE number = ?", (text, run.number))
        old = [row for row in rows if row[0] < expected]
        new = [row for row in rows if row[0] >= expected]
        conflicts = self._conflicts(connection, run, old)
        connection.executemany("INSERT INTO events VALUES (?, ?, ?)", [(run.number, *row) for row in new])
        acked = new[-1][0] if new else run.acked
        ended = run.ended
        for sequence in sorted(ends.keys() & {row[0] for row in new}):
            ended = self._clock() if ends[sequence] else None
        if new or conflicts:
            connection.execute(
                "UPDATE runs SET acked = ?, conflicts = conflicts + ?, ended = ? WHERE number = ?",
                (acked, conflicts, ended, run.number),
            )
        current = self._find(connection, "number = ?", run.number)
        assert current is not None
        return Appended(acked, len(new), len(old), conflicts, current)

    def _create(self, connection: sqlite3.Connection, name: str, uid: str) -> TrackedRun:
        (count,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        if count >= self._max_runs:
            raise ResourceExhaustedError(f"the tracker keeps {count} runs already; its limit is {self._max_runs}")
        connection.execute("INSERT INTO runs (uid, name, created) VALUES (?, ?, ?)", (uid, name, self._clock()))
        made = self._find(connection, "uid = ?", uid)
        assert made is not None
        return made

    @staticmethod
    def _conflicts(connection: sqlite3.Connection, run: TrackedRun, rows: list[tuple[int, bytes]]) -> int:
        if not rows:
            return 0
        query = "SELECT sequence, content FROM events WHERE run = ? AND sequence BETWEEN ? AND ?"
        kept = dict(connection.execute(query, (run.number, rows[0][0], rows[-1][0])))
        differing = [sequence for sequence, content in rows if not _same(kept[sequence], content)]
        if differing:
            _log.warning("events came again with other content run=%s first=%d", run.name, differing[0])
        return len(differing)

    @staticmethod
    def _find(connection: sqlite3.Connection, where: str, value: object) -> TrackedRun | None:
        query = f"SELECT {_COLUMNS} FROM runs WHERE {where} ORDER BY number DESC LIMIT 1"  # noqa: S608 - constant
        row = connection.execute(query, (value,)).fetchone()
        return None if row is None else _run(row)

    def run(self, name_or_uid: str) -> TrackedRun:
        """Finds a run by uid, else the newest of that name.

        Raises:
            NotFoundError: There is none.

        """
        with self._reader() as reader:
            found = self._find(reader, "uid = ?", name_or_uid) or self._find(reader, "name = ?", name_or_uid)
        if found is None:
            raise NotFoundError(f"the tracker knows no run '{name_or_uid[:80]}'")
        return found

    def runs(self, limit: int) -> list[TrackedRun]:
        """Lists runs: those that run first, then the newest first."""
        query = f"SELECT {_COLUMNS} FROM runs ORDER BY ended IS NOT NULL, number DESC LIMIT ?"  # noqa: S608
        return [_run(row) for row in self.query(query, (limit,))]

    def live(self, ended_after: float, limit: int) -> list[TrackedRun]:
        """Lists runs that have not ended, or ended later than that: the former first, then the newest first."""
        query = (
            f"SELECT {_COLUMNS} FROM runs WHERE ended IS NULL OR ended > ? "  # noqa: S608 - constant
            "ORDER BY ended IS NOT NULL, number DESC LIMIT ?"
        )
        return [_run(row) for row in self.query(query, (ended_after, limit))]

    def count_live(self, ended_after: float) -> int:
        """Counts the runs that `live` lists without a limit."""
        return int(self.query("SELECT count(*) FROM runs WHERE ended IS NULL OR ended > ?", (ended_after,))[0][0])

    def events(self, run: TrackedRun, after_sequence: int, limit: int) -> list[Event]:
        """Reads the next events of a run, at most `limit`."""
        query = "SELECT content FROM events WHERE run = ? AND sequence > ? ORDER BY sequence LIMIT ?"
        return [Event.FromString(row[0]) for row in self.query(query, (run.number, after_sequence, limit))]

    def query(self, sql: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Reads rows for the other parts of the tracker; `Any`, because only the schema knows the types."""
        with self._reader() as reader:
            return list(reader.execute(sql, tuple(values)))

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Lends a connection; a long read delays a short one only when all are lent."""
        reader = self._readers.get()
        try:
            yield reader
        finally:
            self._readers.put(reader)


def _same(kept: bytes, other: bytes) -> bool:
    """Tells whether two encodings mean the same event; equal bytes are, even with a NaN inside."""
    if kept == other:
        return True
    try:
        return Event.FromString(kept) == Event.FromString(other)
    except DecodeError:
        return False


def _run(row: tuple[int, str, str, str | None, float, int, float | None, int]) -> TrackedRun:
    number, uid, name, config, created, acked, ended, conflicts = row
    return TrackedRun(number, uid, name, json.loads(config or "{}"), created, acked, ended, conflicts)
