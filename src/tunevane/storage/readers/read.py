"""Finds the reader for what a person passes as data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunevane.core.dataset import Dataset, checked
from tunevane.errors import DataFormatError
from tunevane.storage.blobs import BlobStore
from tunevane.storage.readers import delimited, json_lines, parquet, records, tables, text_file
from tunevane.storage.readers.assembly import assemble
from tunevane.storage.readers.images import Images
from tunevane.storage.readers.place import Source
from tunevane.storage.readers.row import Row

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_PARQUET = (".parquet", ".pq")
_KNOWN = ".csv, .tsv, .jsonl and .parquet"


@dataclass(frozen=True)
class Opened:
    """Data that is about to be read, once."""

    source: Source
    """What complaints call it."""

    rows: Iterator[Row]
    """Its rows, one after the other."""

    images: Images
    """The images met so far."""


def open_rows(
    source: object, *, is_labeled: bool = False, header: bool | None = None, store: BlobStore | None = None
) -> Opened:
    """Starts to read data.

    Args:
        source: A path of a `.csv`, `.tsv`, `.jsonl` or `.parquet` file; a list or an iterator of records; a pandas,
            polars or `datasets` table; or a docarray `DocList`.
        is_labeled: Whether two CSV columns are content and label rather than a pair, where their names do not tell.
        header: Whether the first CSV row holds names; None looks for `query`, `document`, `label`, `score`.
        store: Where images are kept; None checks and names them only. Paths of images begin at the file's folder, or
            at the working folder where the data is no file.

    Raises:
        DataFormatError: It cannot be read; the sentence names file, line and reason.

    """
    if isinstance(source, str | os.PathLike):
        return _open_file(Path(source).expanduser(), is_labeled, header, store)
    images = Images(store)
    table = tables.rows(source)
    if table is not None:
        place = Source("the table", "row")
        return Opened(place, records.rows(enumerate(table, start=1), place, images), images)
    if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes | bytearray):
        place = Source("the list", "record")
        return Opened(place, records.rows(enumerate(map(tables.record, source), start=1), place, images), images)
    raise DataFormatError(f"a {type(source).__name__} is no data set; give a path, a list of records or a table")


def read(source: object, *, is_labeled: bool = False, header: bool | None = None) -> Dataset:
    """Reads a data set into memory; images are checked and named, and kept nowhere.

    Args:
        source: A path, records, a table or documents, as `open_rows` says; or a `Dataset`, which is returned as it is.
        is_labeled: Whether two CSV columns are content and label rather than a pair, where their names do not tell.
        header: Whether the first CSV row holds names; None looks for `query`, `document`, `label`, `score`.

    Raises:
        DataFormatError: It cannot be read; the sentence names file, line and reason.

    """
    if isinstance(source, Dataset):
        return source
    opened = open_rows(source, is_labeled=is_labeled, header=header)
    assembly = assemble(opened.source, opened.rows)
    try:
        rows = list(assembly.pairs())
        pairs = np.array([row[:2] for row in rows], np.int64).reshape(-1, 2)
        scores = np.array([row[2] for row in rows], np.float64) if assembly.kind == "scored" else None
        return checked(Dataset(assembly.kind, tuple(assembly.items()), pairs, scores))
    finally:
        assembly.close()


def _open_file(path: Path, is_labeled: bool, header: bool | None, store: BlobStore | None) -> Opened:
    suffix = path.suffix.lower()
    _check_file(path, suffix)
    images = Images(store, path.parent)
    if suffix in _PARQUET:
        source = Source(str(path), "row")
        return Opened(source, records.rows(parquet.rows(path), source, images), images)
    source = Source(str(path), "line")
    lines = text_file.lines(path, source)
    if suffix in _JSON_LINES:
        return Opened(source, _records(lines, source, images), images)
    delimiter = _DELIMITERS[suffix]
    rows = delimited.rows(lines, delimiter, source, images, is_labeled=is_labeled, header=header)
    return Opened(source, rows, images)


def _records(lines: Iterator[str], source: Source, images: Images) -> Iterator[Row]:
    numbered = json_lines.rows(lines, source)
    first = next(numbered, None)
    if first is None:
        raise DataFormatError(f"{source.name} is empty; at least one line of data is needed")

    def all_of_them() -> Iterator[tuple[int, object]]:
        yield first
        yield from numbered

    yield from records.rows(all_of_them(), source, images)


def _check_file(path: Path, suffix: str) -> None:
    try:
        if path.is_dir():
            raise DataFormatError(f"{path} is a folder; give a file that ends in {_KNOWN}")
        if not path.exists():
            raise DataFormatError(f"there is no file {path}")
        if not path.is_file():
            raise DataFormatError(f"{path} is no regular file; save the data as a file that ends in {_KNOWN}")
    except OSError as error:
        raise DataFormatError(f"{path} cannot be read: {error.strerror}") from error
    if suffix not in _DELIMITERS and suffix not in (*_JSON_LINES, *_PARQUET):
        hint = "; read it with pandas and pass the table" if suffix in (".xlsx", ".feather") else ""
        raise DataFormatError(f"{path}: files that end in {_KNOWN} are read, not {suffix or 'others'!r}{hint}")
