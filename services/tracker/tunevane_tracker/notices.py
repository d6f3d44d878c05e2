"""Lines for a run's log: kept until they were handed over, and handed over once.

An answer can get lost on its way. The caller then repeats its call, and a call that begins with events
which were acknowledged before gets the lines of that answer again.
"""

from __future__ import annotations

import sqlite3
from concurrent.futures import Future

from tunevane_tracker.journal import Journal, TrackedRun


class Notices:
    """The notices of all runs; every method may be called from any thread."""

    def __init__(self, journal: Journal) -> None:
        """Uses the journal's database."""
        self._journal = journal
        rows = journal.query("SELECT DISTINCT run FROM notices WHERE answered IS NULL")
        self._unanswered = {int(row[0]) for row in rows}
        """Runs with lines that nobody has got: known here, so that a batch of events costs no look."""

    def add(self, run: TrackedRun, kind: str, text: str) -> Future[bool]:
        """Keeps a line for a run's log; the second of one kind is ignored, and the future says so."""

        def work(connection: sqlite3.Connection) -> bool:
            query = "INSERT OR IGNORE INTO notices (run, kind, text) VALUES (?, ?, ?)"
            added = connection.execute(query, (run.number, kind, text)).rowcount == 1
            if added:
                self._unanswered.add(run.number)
            return added

        return self._journal.writer.submit(work)

    def has(self, run: TrackedRun, kind: str) -> bool:
        """Tells whether a line of a kind was ever added."""
        query = "SELECT 1 FROM notices WHERE run = ? AND kind = ?"
        return bool(self._journal.query(query, (run.number, kind)))

    def text(self, run: TrackedRun, kind: str) -> str | None:
        """Returns the line of a kind; None when there is none."""
        rows = self._journal.query("SELECT text FROM notices WHERE run = ? AND kind = ?", (run.number, kind))
        return str(rows[0][0]) if rows else None

    def take(self, run: TrackedRun, first_sequence: int) -> Future[list[str]]:
        """Hands over lines.

        Args:
            run: Whose lines.
            first_sequence: Number of the first event of the call that is answered.

        """

        def work(connection: sqlite3.Connection) -> list[str]:
            self._unanswered.discard(run.number)
            # The caller of an answer that arrived goes on behind the events it acknowledged.
            query = (
                "SELECT rowid, text FROM notices WHERE run = ? AND (answered IS NULL OR answered >= ?) ORDER BY rowid"
            )
            rows = connection.execute(query, (run.number, first_sequence)).fetchall()
            (acked,) = connection.execute("SELECT acked FROM runs WHERE number = ?", (run.number,)).fetchone()
            mark = "UPDATE notices SET answered = ? WHERE rowid = ?"
            connection.executemany(mark, [(acked, rowid) for rowid, _ in rows])
            return [text for _, text in rows]

        return self._journal.writer.submit(work)

    def waiting(self, run: TrackedRun, first_sequence: int, *, repeated: bool) -> bool:
        """Tells whether `take` would hand anything over; `repeated` says whether the call has old events."""
        if run.number in self._unanswered:
            return True
        if not repeated:
            return False
        query = "SELECT 1 FROM notices WHERE run = ? AND (answered IS NULL OR answered >= ?) LIMIT 1"
        return bool(self._journal.query(query, (run.number, first_sequence)))
