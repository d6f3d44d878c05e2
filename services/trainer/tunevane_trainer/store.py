"""Runs, their events and data-set names in one SQLite file; every method is one transaction.

The store is used from one thread at a time. An event that `append` returned for is on disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from tunevane.api.data.v1 import dataset_service_pb2
from tunevane.api.trainer.v1 import run_pb2
from tunevane.api.type.v1 import blob_pb2, event_pb2
from tunevane.core import bundles
from tunevane.errors import (
    AlreadyExistsError,
    NotFoundError,
    PreconditionError,
    StaleWriterError,
)
from tunevane_trainer import history
from tunevane_trainer.database import Database


@dataclass(frozen=True)
class Lease:
    """Who may write to a run."""

    token: str
    """Secret of the current worker; empty when nobody holds the run."""

    lost: int
    """Workers that were lost so far."""


class RunStore(Database):
    """The trainer's memory."""

    # Runs

    def create(self, run: run_pb2.Run, request_id: str) -> run_pb2.Run:
        """Adds a run, or returns the one that the same request made before.

        Raises:
            AlreadyExistsError: Another run has the name.

        """
        with self._transaction() as db:
            if request_id:
                row = db.execute("SELECT run FROM runs WHERE request_id = ?", (request_id,)).fetchone()
                if row is not None:
                    return run_pb2.Run.FromString(row[0])
            try:
                db.execute(
                    "INSERT INTO runs (name, position, state, run, request_id)"
                    " VALUES (?, (SELECT COALESCE(MAX(position), 0) + 1 FROM runs), ?, ?, ?)",
                    (run.name, run.state, run.SerializeToString(), request_id or None),
                )
            except sqlite3.IntegrityError as error:
                raise AlreadyExistsError(f"there is a run '{run.name}' already; choose another name") from error
            blobs = {ref.blake3 for bundle in history.spec_bundles(run.spec) for ref in bundles.refs(bundle)}
            self._pin(run.name, [history.Pinned("spec", tuple(sorted(blobs)))])
        return run

    def get(self, name: str) -> run_pb2.Run:
        """Returns a run.

        Raises:
            NotFoundError: There is none of that name.

        """
        row = self._db.execute("SELECT run FROM runs WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no run '{name}'; `tunevane runs list` shows those there are")
        return run_pb2.Run.FromString(row[0])

    def page(
        self, limit: int, before: int | None = None, states: Sequence[run_pb2.RunState.ValueType] = ()
    ) -> tuple[list[run_pb2.Run], int | None]:
        """Lists runs, newest first, and tells the position to go on from; None at the end."""
        where, arguments = ["TRUE"], list[object]()
        if before is not None:
            where.append("position < ?")
            arguments.append(before)
        if states:
            where.append(f"state IN ({', '.join('?' * len(states))})")
            arguments.extend(states)
        query = f"SELECT run, position FROM runs WHERE {' AND '.join(where)} ORDER BY position DESC LIMIT ?"  # noqa: S608  # only our own words
        rows = self._db.execute(query, (*arguments, limit + 1)).fetchall()
        page = rows[:limit]
        following = page[-1][1] if len(rows) > limit else None
        return [run_pb2.Run.FromString(row[0]) for row in page], following

    def count_by_state(self) -> dict[int, int]:
        """Counts the runs in each state that some run is in."""
        return dict(self._db.execute("SELECT state, COUNT(*) FROM runs GROUP BY state").fetchall())

    def delete(self, name: str) -> None:
        """Removes a run that has ended, with its history.

        Raises:
            PreconditionError: It has not ended.

        """
        with self._transaction() as db:
            run = self.get(name)
            if not history.has_ended(run):
                raise PreconditionError(f"run '{name}' has not ended; cancel it first")
            db.execute("DELETE FROM runs WHERE name = ?", (name,))
            db.execute("DELETE FROM pins WHERE owner = ?", (name,))

    def request_cancel(self, name: str) -> run_pb2.Run:
        """Marks a run as cancelling; has no effect on one that has ended."""
        with self._transaction():
            run = self.get(name)
            if not history.has_ended(run):
                run.state = run_pb2.RUN_STATE_CANCELLING
                self._save(run)
        return run

    def _save(self, run: run_pb2.Run) -> None:
        self._db.execute(
            "UPDATE runs SET run = ?, state = ? WHERE name = ?",
            (run.SerializeToString(), run.state, run.name),
        )

    # Leases

    def lease(self, name: str) -> Lease:
        """Tells who may write to a run."""
        row = self._db.execute("SELECT token, lost FROM runs WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no run '{name}'")
        return Lease(*row)

    def grant(self, name: str, token: str) -> Lease:
        """Gives a run to a new worker and takes it from the old one, which then counts as lost."""
        with self._transaction() as db:
            db.execute("UPDATE runs SET lost = lost + (token != ''), token = ? WHERE name = ?", (token, name))
        return self.lease(name)

    def release(self, name: str) -> None:
        """Takes a run from a worker that gave it back, which is no loss."""
        with self._transaction() as db:
            db.execute("UPDATE runs SET token = '' WHERE name = ?", (name,))

    def next_worker_sequence(self, name: str) -> int:
        """Tells the number that the next event of a worker has to carry; it goes on from one worker to the next."""
        (expected,) = self._db.execute("SELECT worker_sequence FROM runs WHERE name = ?", (name,)).fetchone()
        return int(expected)

    def check_lease(self, name: str, token: str) -> None:
        """Refuses a worker that somebody newer has replaced.

        Raises:
            StaleWriterError: The token is not the current one.

        """
        if not token or self.lease(name).token != token:
            raise StaleWriterError(f"another worker has taken over run '{name}'; this one has to stop")

    # Events

    def append(
        self,
        name: str,
        events: Sequence[event_pb2.Event],
        *,
        token: str | None = None,
        worker_sequence: int = 0,
        keep_epochs: int = 1,
        mirrored: int | None = None,
    ) -> tuple[run_pb2.Run, int]:
        """Appends events, all or none, and returns the run after them.

        Args:
            name: The run.
            events: Without sequence numbers.
            token: The worker's secret; None for the service's own events.
            worker_sequence: The worker's number of the first event; those it counted already are skipped.
            keep_epochs: Checkpoints that stay resumable.
            mirrored: What the tracker has acknowledged; remembered in the same step. None leaves it as it is.

        Returns:
            The run, and the number expected next from the worker.

        Raises:
            StaleWriterError: The worker has been replaced.

        """
        with self._transaction() as db:
            run = self.get(name)
            if mirrored is not None:
                db.execute("UPDATE runs SET mirrored = ? WHERE name = ?", (mirrored, name))
            fresh = list(events)
            expected = worker_sequence
            if token is not None:
                self.check_lease(name, token)
                (expected,) = db.execute("SELECT worker_sequence FROM runs WHERE name = ?", (name,)).fetchone()
                fresh = fresh[max(expected - worker_sequence, 0) :]
                if worker_sequence > expected:
                    raise PreconditionError(
                        f"events {expected} to {worker_sequence - 1} of this worker are missing",
                        {"expected_worker_sequence": str(expected)},
                    )
            if history.has_ended(run):
                return run, expected + len(fresh)
            for event in fresh:
                event.sequence = run.last_sequence + 1
                history.apply(run, event)
                db.execute(
                    "INSERT INTO events (run, sequence, kind, event) VALUES (?, ?, ?, ?)",
                    (name, event.sequence, event.WhichOneof("kind") or "", event.SerializeToString()),
                )
            if fresh:
                self._pin(name, history.pins(fresh, keep_epochs, lambda epoch: self._weights_of(name, epoch)))
                if history.has_ended(run):
                    self._unpin_working_files(name)
                self._save(run)
            if token is not None:
                expected += len(fresh)
                db.execute("UPDATE runs SET worker_sequence = ? WHERE name = ?", (expected, name))
        return run, expected

    def events(self, name: str, after: int, limit: int = 500, kinds: Sequence[str] = ()) -> list[event_pb2.Event]:
        """Lists a run's events after a sequence number, in order."""
        chosen = f" AND kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
        rows = self._db.execute(
            f"SELECT event FROM events WHERE run = ? AND sequence > ?{chosen} ORDER BY sequence LIMIT ?",  # noqa: S608  # only our own words
            (name, after, *kinds, limit),
        )
        return [event_pb2.Event.FromString(row[0]) for row in rows]

    # The mirror's cursor

    def unmirrored(self) -> list[tuple[str, int]]:
        """Lists the runs with events that the tracker has not acknowledged, and the last that it has."""
        rows = self._db.execute(
            "SELECT name, mirrored FROM runs"
            " WHERE mirrored < (SELECT COALESCE(MAX(sequence), 0) FROM events WHERE run = runs.name)"
            " ORDER BY position"
        )
        return rows.fetchall()

    def forget_mirrored(self) -> None:
        """Lets every run be mirrored from its start."""
        with self._transaction() as db:
            db.execute("UPDATE runs SET mirrored = 0")

    def unmirrored_events(self) -> int:
        """Counts the events that the tracker has not acknowledged."""
        (count,) = self._db.execute(
            "SELECT COALESCE(SUM((SELECT COALESCE(MAX(sequence), 0) FROM events WHERE run = runs.name) - mirrored), 0)"
            " FROM runs"
        ).fetchone()
        return int(count)

    # Blobs that are kept

    def _pin(self, owner: str, pins: Sequence[history.Pinned]) -> None:
        for pin in pins:
            self._db.execute("DELETE FROM pins WHERE owner = ? AND role = ?", (owner, pin.role))
            self._db.executemany(
                "INSERT OR IGNORE INTO pins (owner, role, blake3) VALUES (?, ?, ?)",
                [(owner, pin.role, digest) for digest in pin.blobs],
            )

    def _weights_of(self, name: str, epoch: int) -> blob_pb2.Bundle | None:
        for event in reversed(self.events(name, 0, -1, ["checkpoint_saved"])):
            if event.epoch == epoch and not event.checkpoint_saved.batch:
                return event.checkpoint_saved.weights
        return None

    def _unpin_working_files(self, owner: str) -> None:
        """Lets go of what only a running run needs."""
        self._db.execute(
            "DELETE FROM pins WHERE owner = ?"
            " AND (role IN ('best', 'within') OR role LIKE 'epoch/%' OR role LIKE 'candidate/%')",
            (owner,),
        )

    def pinned(self) -> set[str]:
        """Lists the digests of all blobs that something refers to."""
        return {digest for (digest,) in self._db.execute("SELECT DISTINCT blake3 FROM pins")}

    # Data sets

    def add_dataset(self, dataset: dataset_service_pb2.Dataset, request_id: str) -> dataset_service_pb2.Dataset:
        """Gives a name to a data set; the same content under the same name is no conflict.

        Raises:
            AlreadyExistsError: The name stands for other content.

        """
        with self._transaction() as db:
            row = db.execute("SELECT dataset FROM datasets WHERE name = ?", (dataset.name,)).fetchone()
            if row is not None:
                held = dataset_service_pb2.Dataset.FromString(row[0])
                if held.content == dataset.content:
                    return held
                raise AlreadyExistsError(
                    f"'{dataset.name}' stands for other content already; new content takes a new name"
                )
            dataset.create_time.CopyFrom(_now())
            db.execute(
                "INSERT INTO datasets (name, dataset, request_id) VALUES (?, ?, ?)",
                (dataset.name, dataset.SerializeToString(), request_id or None),
            )
            digests = tuple(sorted({ref.blake3 for ref in bundles.refs(dataset.content)}))
            self._pin(dataset.name, [history.Pinned("content", digests)])
        return dataset

    def get_dataset(self, name: str) -> dataset_service_pb2.Dataset:
        """Returns a named data set.

        Raises:
            NotFoundError: There is none of that name.

        """
        row = self._db.execute("SELECT dataset FROM datasets WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no data set '{name}'")
        return dataset_service_pb2.Dataset.FromString(row[0])

    def list_datasets(self, limit: int, after: str) -> tuple[list[dataset_service_pb2.Dataset], str]:
        """Lists data sets by name, and tells the name to go on from; empty at the end."""
        rows = self._db.execute(
            "SELECT dataset FROM datasets WHERE name > ? ORDER BY name LIMIT ?", (after, limit + 1)
        ).fetchall()
        page = [dataset_service_pb2.Dataset.FromString(row[0]) for row in rows[:limit]]
        return page, page[-1].name if len(rows) > limit else ""

    def delete_dataset(self, name: str) -> None:
        """Removes a name; the files stay while a run refers to them."""
        self.get_dataset(name)
        with self._transaction() as db:
            db.execute("DELETE FROM datasets WHERE name = ?", (name,))
            db.execute("DELETE FROM pins WHERE owner = ?", (name,))


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now
