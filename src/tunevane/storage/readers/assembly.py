"""Rows on their way to becoming a data set: numbered, joined into groups, and split, in bounded memory.

Rows wait in a private SQLite database that lives on disk once it is larger than its cache. What stays in memory is 8
bytes for each distinct content of a set of pairs, and one more for each row where the set is split.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from tunevane.core.dataset import Content, Fingerprint, Groups, Item, Kind
from tunevane.errors import DataFormatError
from tunevane.storage.readers.place import Source, shown
from tunevane.storage.readers.row import Row

Mask = npt.NDArray[np.bool_]

_CACHE_KIBIBYTES = 64 << 10
_TABLES = """
CREATE TABLE items(number INTEGER PRIMARY KEY, key BLOB UNIQUE, body TEXT NOT NULL);
CREATE TABLE pairs(number INTEGER PRIMARY KEY, first INTEGER NOT NULL, second INTEGER NOT NULL, score REAL);
"""


class Assembly:
    """Takes rows, then gives items and pairs, as often as they are asked for."""

    def __init__(self, source: Source) -> None:
        """Args: what is being read, for complaints."""
        self._source = source
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(f"PRAGMA cache_size=-{_CACHE_KIBIBYTES}")
        self._db.executescript(_TABLES)
        self._fingerprint = Fingerprint()
        self._groups = Groups()
        self._kind: Kind | None = None
        self.item_count = 0
        self.pair_count = 0

    def close(self) -> None:
        """Removes what was put aside."""
        self._db.close()

    @property
    def kind(self) -> Kind:
        """Kind of the set, once it has a row."""
        assert self._kind is not None
        return self._kind

    def add(self, row: Row) -> None:
        """Takes the next row; all are of one kind.

        Raises:
            DataFormatError: Its id was there before.

        """
        self._kind = row.kind
        if row.second is None:
            self._add_item(row)
            return
        first, second = self._number(row.first), self._number(row.second)
        self._db.execute("INSERT INTO pairs VALUES (?, ?, ?, ?)", (self.pair_count, first, second, row.score))
        self.pair_count += 1
        if row.score is None:
            self._groups.join(first, second)

    def _add_item(self, row: Row) -> None:
        content = row.first
        # Without an id there is nothing to be unique, and NULL never is.
        key = row.id.encode() if row.id else None
        body = [row.id, content.text, content.image, row.label, dict(row.relevant), row.number]
        try:
            self._insert(key, body)
        except sqlite3.IntegrityError:
            (earlier,) = self._db.execute("SELECT body FROM items WHERE key = ?", (key,)).fetchone()
            unit = self._source.unit
            self._source.refuse(
                row.number, f"has the id {shown(row.id)} of {unit} {json.loads(earlier)[-1]}; ids are unique"
            )
        self._fingerprint.add(content.text, content.image, row.label)

    def _number(self, content: Content) -> int:
        """Numbers a content of a pair by first appearance."""
        hasher = blake2b(digest_size=16)
        for part in (content.text, content.image):
            data = b"" if part is None else part.encode()
            hasher.update(len(data).to_bytes(8, "little") + data)
        key = hasher.digest()
        found = self._db.execute("SELECT number FROM items WHERE key = ?", (key,)).fetchone()
        if found is not None:
            return int(found[0])
        number = self.item_count
        self._insert(key, ["", content.text, content.image, None, {}, 0])
        self._fingerprint.add(content.text, content.image)
        self._groups.grow(self.item_count)
        return number

    def _insert(self, key: bytes | None, body: list[Any]) -> None:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        self._db.execute("INSERT INTO items VALUES (?, ?, ?)", (self.item_count, key, text))
        self.item_count += 1

    def items(self, keep: Mask | None = None) -> Iterator[Item]:
        """Lists the items, or those that a mask `[n]` keeps; the ones without an id get one."""
        prefix = self._fingerprint.text()
        groups = self._groups.numbers() if self.kind == "pairs" else None
        for number, body in self._db.execute("SELECT number, body FROM items ORDER BY number"):
            if keep is None or keep[number]:
                name, text, image, label, relevant, _ = json.loads(body)
                if groups is not None:
                    label = f"{prefix}-{groups[number]}"
                yield Item(name or f"{prefix}-{number}", text, image, label, relevant)

    def pairs(self, keep: Mask | None = None) -> Iterator[tuple[int, int, float | None]]:
        """Lists pairs as positions of items and score, or those that a mask `[p]` keeps."""
        rows = self._db.execute("SELECT number, first, second, score FROM pairs ORDER BY number")
        for number, first, second, score in rows:
            if keep is None or keep[number]:
                yield first, second, score

    def split(self, fraction: float, seed: int) -> tuple[tuple[Mask, Mask], tuple[Mask, Mask]]:
        """Divides the set in two at random: connected pairs stay together, and so do the items of a pair.

        Args:
            fraction: Share of the second part, in (0, 1): of groups for pairs, else of rows.
            seed: Of the draw.

        Returns:
            For each of the two parts, which items `[n]` and which pairs `[p]` it has.

        Raises:
            DataFormatError: One of the two would be empty.

        """
        units, count = self._units()
        size = round(fraction * count)
        if not 0 < size < count:
            what = {"items": "items", "pairs": "groups of connected pairs", "scored": "pairs"}[self.kind]
            raise DataFormatError(
                f"{self._source.name} has {count} {what}; val_split={fraction:g} of them leaves one part empty"
            )
        chosen = np.zeros(count, np.bool_)
        chosen[random.Random(seed).sample(range(count), size)] = True
        second = chosen[units]
        if self.kind == "items":
            none = np.zeros(0, np.bool_)
            return (~second, none), (second, none)
        return self._part(~second), self._part(second)

    def _units(self) -> tuple[npt.NDArray[np.int64], int]:
        """Returns what each row is drawn by, `[rows]`, and how many of these there are."""
        if self.kind == "items":
            return np.arange(self.item_count), self.item_count
        if self.kind == "scored":
            return np.arange(self.pair_count), self.pair_count
        groups = self._groups.numbers()
        firsts = np.fromiter((first for first, _, _ in self.pairs()), np.int64, self.pair_count)
        return groups[firsts], int(groups.max()) + 1

    def _part(self, pairs: Mask) -> tuple[Mask, Mask]:
        items = np.zeros(self.item_count, np.bool_)
        for first, second, _ in self.pairs(pairs):
            items[first] = items[second] = True
        return items, pairs


def assemble(source: Source, rows: Iterator[Row]) -> Assembly:
    """Takes all rows of a source; the caller closes the assembly.

    Raises:
        DataFormatError: A row does not fit.

    """
    made = Assembly(source)
    try:
        for row in rows:
            made.add(row)
    except sqlite3.Error as error:
        made.close()
        raise DataFormatError(f"{source.name} cannot be put aside on disk: {error}; free some space there") from error
    except BaseException:
        made.close()
        raise
    return made
