"""The tracker's SQLite file: its tables, and how it is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tunevane.errors import ConfigurationError

VERSION = 2

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('journal_id', lower(hex(randomblob(16))));
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    config TEXT,
    created REAL NOT NULL,
    acked INTEGER NOT NULL DEFAULT 0,
    ended REAL,
    conflicts INTEGER NOT NULL DEFAULT 0,
    newest INTEGER NOT NULL DEFAULT 0,
    writer_epoch INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS runs_by_name ON runs (name, number);
CREATE INDEX IF NOT EXISTS runs_by_end ON runs (ended);
CREATE TABLE IF NOT EXISTS batches (
    number INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    content BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS batches_by_run ON batches (run, last);
CREATE TABLE IF NOT EXISTS holes (
    run INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (run, first)
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

CHECKPOINT_PAGES = 16_000
"""Pages in the write-ahead log before a commit moves them into the database itself: 64 MB. They are moved before
that, beside the writer."""


class DamagedDatabaseError(Exception):
    """The file is a database of ours with pages that are not as they were written."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Opens the database; commits are explicit."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    try:
        if read_only:
            connection.execute("PRAGMA query_only=1")
        else:
            connection.execute("PRAGMA journal_mode=WAL")
            # An acknowledged event survives a power cut.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def open_database(path: Path, schema: str = SCHEMA, version: int = VERSION) -> sqlite3.Connection:
    """Opens or makes a database and checks its pages.

    Raises:
        ConfigurationError: It is none, or of another version; nothing is changed.
        DamagedDatabaseError: Some of its pages are not as they were written.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    way_out = f"move {path} (with its -wal and -shm files) aside; the trainer sends the events again"
    try:
        connection = connect(path)
    except sqlite3.DatabaseError as error:
        raise _unusable(path, error, way_out) from error
    try:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found not in {0, version}:
            raise ConfigurationError(f"{path} has format {found}, this version reads format {version}; {way_out}")
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise DamagedDatabaseError(str(verdict))
        connection.executescript(f"BEGIN; {schema}; PRAGMA user_version={version}; COMMIT;")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _unusable(path, error, way_out) from error
    except BaseException:
        connection.close()
        raise
    return connection


def damaged(error: sqlite3.Error) -> bool:
    """Tells whether an error means that pages of the file are not as they were written."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_CORRUPT


def _unusable(path: Path, error: sqlite3.DatabaseError, way_out: str) -> Exception:
    if damaged(error):
        return DamagedDatabaseError(str(error))
    return ConfigurationError(f"{path} cannot be used as the tracker's database ({error}); {way_out}")
