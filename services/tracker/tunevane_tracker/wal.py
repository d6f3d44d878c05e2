"""Looks into SQLite's write-ahead log, which SQLite reads up to the first damaged page without a word.

The format is that of https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
"""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

_HEADER = struct.Struct(">8xI4x8s")
"""Magic and version, size of a page in bytes, checkpoint number, and the salt of this log."""

_FRAME = struct.Struct(">4xI8s")
"""Page number, size of the database in pages if the frame ends a commit, else 0, and the salt of its log."""

_HEADER_BYTES, _FRAME_BYTES = 32, 24


def committed_frames(database: Path) -> int:
    """Counts the pages up to the last commit that a log holds, whether or not all before it are whole."""
    path = database.with_name(database.name + "-wal")
    last = 0
    try:
        with path.open("rb") as file:
            page_bytes, salt = _HEADER.unpack(file.read(_HEADER_BYTES)[: _HEADER.size])
            number = 0
            while len(head := file.read(_FRAME.size)) == _FRAME.size:
                number += 1
                pages, own = _FRAME.unpack(head)
                # What an earlier log left behind has another salt.
                if own == salt and pages:
                    last = number
                file.seek(_FRAME_BYTES - _FRAME.size + page_bytes, 1)
    except (OSError, struct.error):
        return 0
    return last


def recovered_frames(connection: sqlite3.Connection) -> int:
    """Counts the pages that SQLite took out of its log."""
    _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return max(int(frames), 0)
