"""Opens the tracker's database, and takes over what is readable of a damaged one.

A batch counts as readable when its checksum is right, so nothing that damage invented is ever served. The damaged
file is kept beside the new one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tunevane import log
from tunevane_tracker.batch import DamagedBatchError, checked
from tunevane_tracker.database import DamagedDatabaseError, open_database
from tunevane_tracker.runs import SEALED, seal
from tunevane_tracker.wal import committed_frames, recovered_frames

_log = log.get("tracker.salvage")

# Rows come as the file has them, so `Any` is the honest type of their values here.
_Row = tuple[Any, ...]

_UNREADABLE = (sqlite3.Error, OverflowError, UnicodeDecodeError)

_KEYS: Mapping[str, Sequence[str]] = {
    "runs": ("number",),
    "batches": ("number",),
    "cursors": ("sink", "run"),
    "put_aside": ("sink", "run", "sequence"),
    "notices": ("run", "kind"),
}

_PLAIN = {"cursors": 1, "put_aside": 1, "notices": 0}
"""Tables that are copied as far as they can be read, and their column with the run's number; losing a row of them
repeats a delivery or a line."""


def open_or_salvage(path: Path) -> tuple[sqlite3.Connection, str]:
    """Opens or makes the database.

    Returns:
        The connection, and a sentence about damage that was found now or at an earlier start; empty without any.

    Raises:
        ConfigurationError: The file is no database, or one of another version.

    """
    committed = committed_frames(path)
    try:
        connection = open_database(path)
        lost = recovered_frames(connection) < committed
        _check_runs(connection)
    except DamagedDatabaseError as error:
        connection, lost = _salvage(path, str(error)), False
    if lost:
        # The journal is whole, as of an earlier moment: whoever publishes to it has to send again.
        connection.execute("UPDATE meta SET value = lower(hex(randomblob(16))) WHERE name = 'journal_id'")
        _log.error("%s-wal was damaged", path.name)
        return connection, (
            f"the end of {path.name}-wal was damaged: the events of its last moments are lost until their trainers "
            "send them again"
        )
    row = connection.execute("SELECT value FROM meta WHERE name = 'salvaged'").fetchone()
    if row is None:
        return connection, ""
    known = json.loads(row[0])
    # Whoever removes the damaged file has seen the sentence.
    return connection, known["sentence"] if path.with_name(known["file"]).exists() else ""


def _check_runs(connection: sqlite3.Connection) -> None:
    """Raises DamagedDatabaseError, and closes the connection, when a run is not the one that was written."""
    for *columns, checksum in connection.execute(f"SELECT {SEALED}, checksum FROM runs"):  # noqa: S608 - constant
        if seal(*columns) != checksum:
            connection.close()
            raise DamagedDatabaseError("a run is not the one that was written")


def _salvage(path: Path, why: str) -> sqlite3.Connection:
    number = 1
    while (old := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(old.with_name(old.name + suffix))
    connection = open_database(path)
    source = sqlite3.connect(f"file:{quote(str(old))}?mode=ro", uri=True)
    with closing(source):
        connection.execute("BEGIN IMMEDIATE")
        runs = _copy_runs(source, connection)
        events = _copy_batches(source, connection, runs)
        for table, column in _PLAIN.items():
            for row in _rows(source, table):
                if row[column] not in runs:
                    continue
                marks = ", ".join("?" * len(row))
                with suppress(sqlite3.Error):
                    connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608 - ours
        sentence = (
            f"{path.name} was damaged: {events} events of {len(runs)} runs were readable and are served, "
            f"and the damaged file is kept as {old.name}"
        )
        note = json.dumps({"file": old.name, "sentence": sentence})
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('salvaged', ?)", (note,))
        connection.execute("COMMIT")
    _log.error("%s; reason=%s", sentence, why)
    return connection


def _copy_runs(source: sqlite3.Connection, target: sqlite3.Connection) -> dict[int, int]:
    """Copies the runs and returns the newest event that each had, by number."""
    newest: dict[int, int] = {}

    def add(number: int, uid: str, name: str, config: str | None, created: float) -> bool:
        with suppress(sqlite3.Error):
            target.execute(
                "INSERT INTO runs (number, uid, name, checksum, config, created) VALUES (?, ?, ?, 0, ?, ?)",
                (number, uid, name, config, created),
            )
            return True
        return False

    for row in _rows(source, "runs"):
        number, uid, name, checksum, config, created, acked, ended, conflicts, last, writer_epoch = row
        if seal(number, uid, name, acked, last, ended, conflicts, writer_epoch) != checksum:
            continue
        if add(number, uid, name, _sound(config), created if isinstance(created, float) else 0.0):
            newest[number] = last
            target.execute("UPDATE runs SET ended = ?, conflicts = ? WHERE number = ?", (ended, conflicts, number))
    # A run whose row is gone is still in the indexes.
    by_uid = "SELECT number, uid FROM runs INDEXED BY sqlite_autoindex_runs_1"
    by_name = "SELECT number, name FROM runs INDEXED BY runs_by_name"
    uids, names = dict(_pairs(source, by_uid)), dict(_pairs(source, by_name))
    for number in uids.keys() & names.keys() - newest.keys():
        if add(number, uids[number], names[number], None, 0.0):
            newest[number] = 0
    return newest


def _sound(config: object) -> str | None:
    """Returns a configuration that can be read; None lets it be told again."""
    with suppress(ValueError, TypeError):
        if isinstance(json.loads(config), dict):  # type: ignore[arg-type]  # what is no text raises
            return str(config)
    return None


def _copy_batches(source: sqlite3.Connection, target: sqlite3.Connection, newest: dict[int, int]) -> int:
    """Copies the batches that are whole, notes the holes, and returns how many events there are."""
    found: dict[int, list[tuple[int, int]]] = {run: [] for run in newest}
    for number, run, first, last, checksum, content in _rows(source, "batches"):
        # A run that is lost lets its number go: its events must not turn up in the next run of that number.
        if run not in found:
            continue
        try:
            batch = checked(run, first, last, checksum, content)
            target.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?)", (number, run, first, last, checksum, content)
            )
        except (DamagedBatchError, sqlite3.Error):
            continue
        found[run].append((first, last))
        if batch[-1].HasField("run_ended"):
            # Of a run whose row is gone, this is all that tells.
            seconds = float(batch[-1].event_time.seconds)
            target.execute(
                "UPDATE runs SET ended = coalesce(ended, ?) WHERE number = ? AND created = 0", (seconds, run)
            )
    events = 0
    for run, spans in found.items():
        end, acked = 0, None
        for first, last in [*sorted(spans), (newest[run] + 1, newest[run])]:
            if first > end + 1:
                target.execute("INSERT INTO holes VALUES (?, ?, ?)", (run, end + 1, first - 1))
                acked = end if acked is None else acked
            events += last - first + 1
            end = max(end, last)
        # Anybody may publish to the run that is left: who did before may be what was damaged.
        columns = target.execute(f"SELECT {SEALED} FROM runs WHERE number = ?", (run,)).fetchone()  # noqa: S608
        number, uid, name, _, _, ended, conflicts, writer_epoch = columns
        acked = end if acked is None else acked
        target.execute(
            "UPDATE runs SET acked = ?, newest = ?, checksum = ? WHERE number = ?",
            (acked, end, seal(number, uid, name, acked, end, ended, conflicts, writer_epoch), run),
        )
    return events


def _rows(source: sqlite3.Connection, table: str) -> Iterator[_Row]:
    """Reads a table from both ends up to the damage, and what lies between row by row where rows have numbers."""
    seen: set[_Row] = set()
    for direction in ("ASC", "DESC"):
        order = ", ".join(f"{column} {direction}" for column in _KEYS[table])
        try:
            for row in source.execute(f"SELECT * FROM {table} ORDER BY {order}"):  # noqa: S608 - our own tables
                if row[:3] in seen:
                    return
                seen.add(row[:3])
                yield row
        except _UNREADABLE:
            continue
        return
    if _KEYS[table] == ("number",):
        numbers = sorted(row[0] for row in seen)
        for before, after in pairwise(numbers):
            for number in range(before + 1, after):
                with suppress(*_UNREADABLE):
                    yield from source.execute(f"SELECT * FROM {table} WHERE number = ?", (number,))  # noqa: S608


def _pairs(source: sqlite3.Connection, query: str) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    with suppress(*_UNREADABLE):
        for row in source.execute(query):
            found.append(row)  # noqa: PERF402 - what was read before an error is kept
    return found
