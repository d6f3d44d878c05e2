"""Finds the reader for what a person passes as data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from tunevane.core.dataset import Dataset
from tunevane.errors import DataFormatError
from tunevane.storage.readers import delimited, json_lines, records, tables
from tunevane.storage.readers.place import Source

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_KNOWN = ".csv, .tsv and .jsonl"


def read(source: object, *, is_labeled: bool = False, header: bool | None = None) -> Dataset:
    """Reads a data set.

    Args:
        source: A path of a `.csv`, `.tsv` or `.jsonl` file; a list of records; a pandas, polars or `datasets` table; a
            docarray `DocList`; or a `Dataset`, which is returned as it is.
        is_labeled: Whether two CSV columns are content and label rather than a pair, where their names do not tell.
        header: Whether the first CSV row holds names; None looks for `query`, `document`, `label`, `score`.

    Raises:
        DataFormatError: It cannot be read; the sentence names file, line and reason.

    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str | os.PathLike):
        return _read_file(Path(source).expanduser(), is_labeled, header)
    table = tables.rows(source)
    if table is not None:
        return records.from_records(enumerate(table, start=1), Source("the table", "row"))
    if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes | bytearray):
        return records.from_records(enumerate(map(tables.record, source), start=1), Source("the list", "record"))
    raise DataFormatError(f"a {type(source).__name__} is no data set; give a path, a list of records or a table")


def _read_file(path: Path, is_labeled: bool, header: bool | None) -> Dataset:
    suffix = path.suffix.lower()
    source = Source(str(path), "line")
    text = _text(path, source, suffix)
    if not text.strip():
        raise DataFormatError(f"{path} is empty; at least one line of data is needed")
    if suffix in _JSON_LINES:
        return records.from_records(json_lines.rows(text, source), source)
    return delimited.dataset_of(text, _DELIMITERS[suffix], source, is_labeled=is_labeled, header=header)


def _text(path: Path, source: Source, suffix: str) -> str:
    try:
        if path.is_dir():
            raise DataFormatError(f"{path} is a folder; give a file that ends in {_KNOWN}")
        if not path.exists():
            raise DataFormatError(f"there is no file {path}")
        if not path.is_file():
            raise DataFormatError(f"{path} is no regular file; save the data as a file that ends in {_KNOWN}")
        if suffix not in _DELIMITERS and suffix not in _JSON_LINES:
            hint = "; read it with pandas and pass the table" if suffix in (".parquet", ".xlsx", ".feather") else ""
            raise DataFormatError(f"{path}: files that end in {_KNOWN} are read, not {suffix or 'others'!r}{hint}")
        data = path.read_bytes()
    except OSError as error:
        raise DataFormatError(f"{path} cannot be read: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The decoder counts from behind the byte order mark.
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, start) + 1
        source.refuse(line, f"is not UTF-8 at byte {start} of the file (0x{data[start]:02x}); save the file as UTF-8")
    nul = text.find("\0")
    if nul >= 0:
        source.refuse(text.count("\n", 0, nul) + 1, "has a NUL character, as binary files have; only text is read")
    return text
