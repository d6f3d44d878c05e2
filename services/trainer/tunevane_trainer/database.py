"""The trainer's SQLite file: its tables, how it is opened, and transactions that are all or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunevane.errors import ConfigurationError, StorageFullError

VERSION = 1

_SCHEMA = """
CREATE TABLE runs (
    name TEXT PRIMARY KEY,
    position INTEGER NOT NULL UNIQUE,
    state INTEGER NOT NULL,
    run BLOB NOT NULL,
    request_id TEXT UNIQUE,
    token TEXT NOT NULL DEFAULT '',
    worker_sequence INTEGER NOT NULL DEFAULT 1,
    lost INTEGER NOT NULL DEFAULT 0,
    mirrored INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX runs_by_state ON runs (state);
CREATE TABLE events (
    run TEXT NOT NULL REFERENCES runs (name) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    kind TEXT NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (run, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE pins (
    owner TEXT NOT NULL,
    role TEXT NOT NULL,
    blake3 TEXT NOT NULL,
    PRIMARY KEY (owner, role, blake3)
) STRICT, WITHOUT ROWID;
CREATE TABLE datasets (
    name TEXT PRIMARY KEY,
    dataset BLOB NOT NULL,
    request_id TEXT UNIQUE
) STRICT;
"""


class Database:
    """An open file; used from one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Opens the file, making it where there is none.

        Raises:
            ConfigurationError: The file belongs to a newer version, or is no database.

        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                with self._transaction():
                    for statement in _SCHEMA.split(";\n"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {VERSION}")
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise ConfigurationError(
                f"{path} cannot be read ({error}); move it aside to start with an empty history"
            ) from error
        if version > VERSION:
            self._db.close()
            raise ConfigurationError(
                f"{path} was written by a newer version of tunevane; install that version, or choose another state_dir"
            )

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._rollback()
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise StorageFullError(
                    f"the disk that holds {self._path.name} is full; free some space and repeat the call"
                ) from error
            raise
        except BaseException:
            self._rollback()
            raise

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
