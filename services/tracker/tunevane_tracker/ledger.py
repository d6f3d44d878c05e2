"""Decides what becomes of a batch of events; used in the writer's thread only.

What is known of each run is held in memory, so that a batch costs one statement. The rows of `runs` are written
once per commit.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from tunevane import log
from tunevane.api.type.v1.event_pb2 import Event
from tunevane.errors import AlreadyExistsError, ResourceExhaustedError, SequenceGapError, StaleWriterError
from tunevane_tracker.batch import Batch, DamagedBatchError, checked, checksum, same
from tunevane_tracker.runs import COLUMNS, TrackedRun, from_row, seal

_log = log.get("tracker.ledger")

MAX_HELD = 10_000
"""Runs held in memory."""


@dataclass(frozen=True)
class Appended:
    """What became of a batch of events."""

    acked: int
    """Every event up to this number is on disk."""

    stored: int
    """Events that were new."""

    duplicates: int
    """Events that were there already."""

    run: TrackedRun
    """The run, as it was at the commit."""


class Ledger:
    """The runs as they will be after the commit under way."""

    def __init__(
        self,
        clock: Callable[[], float],
        max_runs: int,
        on_mended: Callable[[TrackedRun], None],
        on_renamed: Callable[[str], None],
    ) -> None:
        """Starts empty: the database has everything.

        Args:
            clock: Tells the time, Unix seconds.
            max_runs: Runs that are kept.
            on_mended: Hears of a run that got lost events again.
            on_renamed: Hears the new name of a memory that lost events.

        """
        self._clock = clock
        self._max_runs = max_runs
        self._on_mended = on_mended
        self._on_renamed = on_renamed
        self._runs: dict[str, TrackedRun] = {}
        self._changed: dict[str, TrackedRun] = {}

    def append(
        self,
        connection: sqlite3.Connection,
        name: str,
        uid: str,
        batch: Batch,
        config: Mapping[str, object] | None,
        writer_epoch: int,
    ) -> Appended:
        """Stores the next events of a run.

        Raises:
            SequenceGapError: Events before the first are missing.
            StaleWriterError: A newer publisher has been heard.
            AlreadyExistsError: An event came before with other content.
            ResourceExhaustedError: There are too many runs.

        """
        run = self._find(connection, uid)
        acked = 0 if run is None else run.acked
        if run is not None and writer_epoch < run.writer_epoch:
            raise StaleWriterError(
                f"runs/{name} is published by somebody who was started later; this publisher has to stop",
                {"writer_epoch": str(run.writer_epoch)},
            )
        if batch.first > acked + 1:
            raise SequenceGapError(
                f"events {acked + 1} to {batch.first - 1} of runs/{name} are missing; continue from {acked + 1}",
                {"expected_sequence": str(acked + 1)},
            )
        if run is None:
            run = self._create(connection, name, uid)
        if config is not None and not run.config:
            text = json.dumps(config, sort_keys=True)
            connection.execute("UPDATE runs SET config = ? WHERE number = ?", (text, run.number))
            run = replace(run, config=json.loads(text))
        if writer_epoch > run.writer_epoch:
            run = replace(run, writer_epoch=writer_epoch)
        self._put(run)
        if not batch.count:
            return Appended(run.acked, 0, 0, run)
        if batch.first == acked + 1 and run.newest == acked:
            return self._extend(connection, run, batch, 0)
        return self._fill(connection, run, batch)

    def before_commit(self, connection: sqlite3.Connection) -> None:
        """Writes what changed of the runs."""
        rows = [
            (run.acked, run.newest, run.ended, run.conflicts, run.writer_epoch, _seal(run), run.number)
            for run in self._changed.values()
        ]
        connection.executemany(
            "UPDATE runs SET acked = ?, newest = ?, ended = ?, conflicts = ?, writer_epoch = ?, checksum = ? "
            "WHERE number = ?",
            rows,
        )
        self._changed.clear()
        if len(self._runs) > MAX_HELD:
            self._runs.clear()

    def on_rollback(self) -> None:
        """Forgets what was not kept."""
        self._runs.clear()
        self._changed.clear()

    def set_aside(self, connection: sqlite3.Connection, run: TrackedRun, first: int, last: int) -> None:
        """Takes a damaged batch out, so that its events can come again."""
        connection.execute("DELETE FROM batches WHERE run = ? AND last = ?", (run.number, last))
        connection.execute("INSERT OR REPLACE INTO holes VALUES (?, ?, ?)", (run.number, first, last))
        # Whoever publishes to this journal sends everything again, and that fills the hole.
        name = secrets.token_hex(16)
        connection.execute("UPDATE meta SET value = ? WHERE name = 'journal_id'", (name,))
        self._on_renamed(name)
        current = self._find(connection, run.uid)
        assert current is not None
        self._put(replace(current, acked=min(current.acked, first - 1)))

    def _find(self, connection: sqlite3.Connection, uid: str) -> TrackedRun | None:
        run = self._runs.get(uid)
        if run is None:
            row = connection.execute(f"SELECT {COLUMNS} FROM runs WHERE uid = ?", (uid,)).fetchone()  # noqa: S608
            run = None if row is None else from_row(row)
        return run

    def _put(self, run: TrackedRun) -> None:
        self._runs[run.uid] = self._changed[run.uid] = run

    def _create(self, connection: sqlite3.Connection, name: str, uid: str) -> TrackedRun:
        (count,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        if count >= self._max_runs:
            raise ResourceExhaustedError(f"the tracker keeps {count} runs already; its limit is {self._max_runs}")
        created = self._clock()
        (number,) = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM runs").fetchone()
        run = TrackedRun(number, uid, name, {}, created, 0, None, 0)
        connection.execute(
            "INSERT INTO runs (number, uid, name, checksum, created) VALUES (?, ?, ?, ?, ?)",
            (number, uid, name, _seal(run), created),
        )
        return run

    def _extend(self, connection: sqlite3.Connection, run: TrackedRun, batch: Batch, duplicates: int) -> Appended:
        """Adds events behind the newest."""
        self._insert(connection, run, batch)
        ended = run.ended
        for _, ends in batch.edges:
            ended = self._clock() if ends else None
        run = replace(run, acked=batch.last, newest=batch.last, ended=ended)
        self._put(run)
        return Appended(run.acked, batch.count, duplicates, run)

    @staticmethod
    def _insert(connection: sqlite3.Connection, run: TrackedRun, batch: Batch) -> None:
        code = checksum(run.number, batch.first, batch.last, batch.content)
        connection.execute(
            "INSERT INTO batches (run, first, last, checksum, content) VALUES (?, ?, ?, ?, ?)",
            (run.number, batch.first, batch.last, code, batch.content),
        )

    def _fill(self, connection: sqlite3.Connection, run: TrackedRun, batch: Batch) -> Appended:
        """Adds what is new of events of which some are stored: sent again, or lost to damage."""
        kept = self._kept(connection, run, batch)
        events = batch.events()
        differing = [event.sequence for event in events if event.sequence in kept and not _same(kept, event)]
        # `_kept` may have found more damage.
        run = self._runs[run.uid]
        if differing:
            self._put(replace(run, conflicts=run.conflicts + len(differing)))
            _log.warning("events came again with other content run=%s first=%d", run.name, differing[0])
            raise AlreadyExistsError(
                f"event {differing[0]} of runs/{run.name} came before with other content, and the first is kept; "
                f"continue behind event {run.acked}",
                {"acked_sequence": str(run.acked), "conflicts": str(len(differing))},
            )
        stored = 0
        for fresh in _spans([event for event in events if event.sequence not in kept]):
            stored += fresh.count
            if fresh.first == run.newest + 1 and run.newest == run.acked:
                run = self._extend(connection, run, fresh, 0).run
            else:
                self._insert(connection, run, fresh)
                run = self._mend(connection, run, fresh)
        return Appended(run.acked, stored, len(kept), run)

    def _kept(self, connection: sqlite3.Connection, run: TrackedRun, batch: Batch) -> dict[int, Event]:
        """Reads the stored events with the numbers of a batch; damaged ones are taken out."""
        query = (
            "SELECT first, last, checksum, content FROM batches WHERE run = ? AND last >= ? AND first <= ? "
            "ORDER BY last"
        )
        kept: dict[int, Event] = {}
        for first, last, code, content in connection.execute(query, (run.number, batch.first, batch.last)).fetchall():
            try:
                events = checked(run.number, first, last, code, content)
            except DamagedBatchError:
                self.set_aside(connection, run, first, last)
            else:
                kept.update({each.sequence: each for each in events if batch.first <= each.sequence <= batch.last})
        return kept

    def _mend(self, connection: sqlite3.Connection, run: TrackedRun, fresh: Batch) -> TrackedRun:
        """Counts how far a run is without a hole after events came into one, and notes what is left of holes."""
        overlapping = "SELECT first, last FROM holes WHERE run = ? AND last >= ? AND first <= ?"
        for first, last in connection.execute(overlapping, (run.number, fresh.first, fresh.last)).fetchall():
            connection.execute("DELETE FROM holes WHERE run = ? AND first = ?", (run.number, first))
            left = [(first, fresh.first - 1), (fresh.last + 1, last)]
            connection.executemany(
                "INSERT INTO holes VALUES (?, ?, ?)", [(run.number, *each) for each in left if each[0] <= each[1]]
            )
        acked = run.acked
        rest = "SELECT first, last FROM batches WHERE run = ? AND last > ? ORDER BY last"
        for first, last in connection.execute(rest, (run.number, acked)):
            if first > acked + 1:
                break
            acked = last
        run = replace(run, acked=acked, newest=max(run.newest, fresh.last))
        self._put(run)
        self._on_mended(run)
        return run


def _seal(run: TrackedRun) -> int:
    return seal(run.number, run.uid, run.name, run.acked, run.newest, run.ended, run.conflicts, run.writer_epoch)


def _same(kept: Mapping[int, Event], event: Event) -> bool:
    return same(kept[event.sequence], event)


def _spans(events: list[Event]) -> Iterator[Batch]:
    """Cuts events into batches without a gap."""
    begin = 0
    for index in range(1, len(events) + 1):
        if index == len(events) or events[index].sequence != events[index - 1].sequence + 1:
            yield Batch.from_events(events[begin:index])
            begin = index
