"""The writer: what it tells is on disk, a full disk loses nothing, and a failed disk stops it for good."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tunevane.errors import NotFoundError, StorageFullError, UnavailableError
from tunevane_tracker import checkpoint
from tunevane_tracker.database import open_database
from tunevane_tracker.writer import Writer

SCHEMA = "CREATE TABLE IF NOT EXISTS lines (content BLOB)"


def insert(content: bytes) -> Callable[[sqlite3.Connection], None]:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO lines VALUES (?)", (content,))

    return work


def count(path: Path) -> int:
    database = sqlite3.connect(path)
    try:
        return int(database.execute("SELECT count(*) FROM lines").fetchone()[0])
    finally:
        database.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lines.sqlite"


def test_a_refused_job_leaves_the_others_of_its_commit_alone(path: Path) -> None:
    writer = Writer(open_database(path, SCHEMA, 1), path, lambda: None)

    def refuse(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO lines VALUES (x'00')")
        raise NotFoundError("no")

    futures = [writer.submit(insert(b"a")), writer.submit(refuse), writer.submit(insert(b"b"))]
    with pytest.raises(NotFoundError):
        futures[1].result(10)
    futures[0].result(10)
    futures[2].result(10)
    assert count(path) == 2
    writer.close()


def test_a_full_disk_is_named_and_writing_goes_on_once_there_is_space(path: Path) -> None:
    connection = open_database(path, SCHEMA, 1)
    broken: list[bool] = []
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages + 1}")
    writer = Writer(connection, path, lambda: broken.append(True))
    with pytest.raises(StorageFullError, match=r"disk of .*lines\.sqlite is full"):
        writer.submit(insert(bytes(1 << 20))).result(10)

    def free(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA max_page_count={1 << 20}")

    writer.submit(free).result(10)
    writer.submit(insert(bytes(1 << 20))).result(10)
    assert count(path) == 1
    assert not broken
    writer.close()


def test_a_failed_disk_stops_the_writer_until_a_restart(path: Path) -> None:
    broken: list[bool] = []
    writer = Writer(open_database(path, SCHEMA, 1), path, lambda: broken.append(True))

    def fail(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    for work in (fail, insert(b"a")):
        with pytest.raises(UnavailableError, match="until it is restarted"):
            writer.submit(work).result(10)
    assert broken == [True]
    assert count(path) == 0
    writer.close()


def test_the_log_stays_short_while_writing_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "BYTES", 1 << 20)
    writer = Writer(open_database(path, SCHEMA, 1), path, lambda: None)
    for _ in range(60):
        pending = [writer.submit(insert(bytes(1 << 18)), size_bytes=1 << 18) for _ in range(4)]
        for each in pending:
            each.result(30)
    # 60 MB went through it; SQLite itself would begin at 64.
    assert path.with_name("lines.sqlite-wal").stat().st_size < 30 << 20
    assert count(path) == 240
    writer.close()
