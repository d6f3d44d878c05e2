"""Remembers how far each sink is with each run, and which events it could not take."""

from __future__ import annotations

import sqlite3
from concurrent.futures import Future
from dataclasses import dataclass, replace

from tunevane_tracker.journal import Journal, TrackedRun

MAX_DEATHS = 3
"""Deaths of a sink at the same event before the event is put aside."""


@dataclass(frozen=True)
class Cursor:
    """How far one sink is with one run."""

    delivered: int = 0
    """Every event up to this number has reached the sink, or was put aside."""

    url: str = ""
    """Where to look at the run; empty when there is no such place."""

    problem: str = ""
    """The last problem; empty when there is none."""

    finished: int = 0
    """Number of the event with which the sink completed the run; 0 before."""


class Cursors:
    """The cursors of all sinks, kept in the journal's database."""

    def __init__(self, journal: Journal) -> None:
        """Uses the journal's database."""
        self._journal = journal

    def get(self, sink: str, run: TrackedRun) -> Cursor:
        """Reads a cursor; one that was never moved stands before the first event."""
        query = "SELECT delivered, url, problem, finished FROM cursors WHERE sink = ? AND run = ?"
        rows = self._journal.query(query, (sink, run.number))
        return Cursor(*rows[0]) if rows else Cursor()

    def delivered(self, sink: str) -> dict[int, int]:
        """Reads how far a sink is with every run that has a cursor, by the run's number."""
        rows = self._journal.query("SELECT run, delivered FROM cursors WHERE sink = ?", (sink,))
        return {int(run): int(number) for run, number in rows}

    def move(self, sink: str, run: TrackedRun, delivered: int) -> Future[None]:
        """Moves a cursor; it was delivered, so there is no problem any more."""
        return self._set(sink, run, "delivered", delivered, "problem = ''")

    def finish(self, sink: str, run: TrackedRun, sequence: int) -> Future[None]:
        """Keeps that the sink completed the run with this event."""
        return self._set(sink, run, "finished", sequence)

    def set_url(self, sink: str, run: TrackedRun, url: str) -> Future[None]:
        """Keeps where the run can be looked at."""
        return self._set(sink, run, "url", url)

    def set_problem(self, sink: str, run: TrackedRun, problem: str) -> Future[None]:
        """Keeps the last problem."""
        return self._set(sink, run, "problem", problem)

    def died(self, sink: str, run: TrackedRun, sequence: int, reason: str) -> Future[bool]:
        """Counts a death at an event; the future tells whether the event is put aside now."""
        query = (
            "INSERT INTO cursors (sink, run, deaths, died_at, problem) VALUES (:sink, :run, 1, :sequence, :reason) "
            "ON CONFLICT DO UPDATE SET deaths = CASE died_at WHEN :sequence THEN deaths + 1 ELSE 1 END, "
            "died_at = :sequence, problem = :reason RETURNING deaths"
        )
        values = {"sink": sink, "run": run.number, "sequence": sequence, "reason": reason}

        def work(connection: sqlite3.Connection) -> bool:
            (deaths,) = connection.execute(query, values).fetchone()
            if deaths < MAX_DEATHS or sequence == 0:
                return False
            connection.execute(
                "INSERT OR IGNORE INTO put_aside VALUES (?, ?, ?, ?)", (sink, run.number, sequence, reason)
            )
            return True

        return self._journal.writer.submit(work)

    def put_aside(self, sink: str, run: TrackedRun) -> list[int]:
        """Lists the events of a run that a sink will not get."""
        query = "SELECT sequence FROM put_aside WHERE sink = ? AND run = ? ORDER BY sequence"
        return [int(row[0]) for row in self._journal.query(query, (sink, run.number))]

    def shown(self, sink: str, run: TrackedRun) -> Cursor:
        """Reads a cursor for people: where it has no problem, those events that the sink will not get are one."""
        cursor = self.get(sink, run)
        aside = self.put_aside(sink, run)
        if cursor.problem or not aside:
            return cursor
        more = f" and {len(aside) - 5} more" if len(aside) > 5 else ""
        numbers = ", ".join(map(str, aside[:5]))
        return replace(cursor, problem=f"put aside, because they killed the sink three times: events {numbers}{more}")

    def put_aside_counts(self) -> dict[str, int]:
        """Counts the events put aside, by sink."""
        rows = self._journal.query("SELECT sink, count(*) FROM put_aside GROUP BY sink")
        return {str(sink): int(count) for sink, count in rows}

    def behind(self, sink: str, mark: str) -> list[TrackedRun]:
        """Lists the runs with `mark`, if any, in their config and events that a sink does not have, oldest first."""
        query = (
            "SELECT r.uid FROM runs r LEFT JOIN cursors c ON c.run = r.number AND c.sink = ? "
            "WHERE r.acked > coalesce(c.delivered, 0) AND (? = '' OR instr(r.config, ?)) ORDER BY r.number"
        )
        return [self._journal.run(row[0]) for row in self._journal.query(query, (sink, mark, mark))]

    def unfinished(self, sink: str, mark: str) -> list[TrackedRun]:
        """Lists the ended runs with `mark` in their config that a sink was given whole but did not complete."""
        query = (
            "SELECT r.uid FROM runs r JOIN cursors c ON c.run = r.number AND c.sink = ? "
            "WHERE r.ended IS NOT NULL AND c.delivered >= r.acked AND c.finished = 0 AND instr(r.config, ?) "
            "ORDER BY r.number"
        )
        return [self._journal.run(row[0]) for row in self._journal.query(query, (sink, mark))]

    def _set(self, sink: str, run: TrackedRun, column: str, value: object, also: str = "") -> Future[None]:
        query = (
            f"INSERT INTO cursors (sink, run, {column}) VALUES (?, ?, ?) "  # noqa: S608 - the columns are ours
            f"ON CONFLICT DO UPDATE SET {column} = excluded.{column}{', ' + also if also else ''}"
        )

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(query, (sink, run.number, value))

        return self._journal.writer.submit(work)
