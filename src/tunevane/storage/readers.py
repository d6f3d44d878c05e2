"""Reads what people pass as data: a CSV or JSONL file, records, or a table.

Every complaint names the file, the line and the reason, and is made before anything is uploaded.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from tunevane.core import dataset
from tunevane.core.dataset import Dataset, Item
from tunevane.errors import DataFormatError

HEADER_NAMES = frozenset({"query", "document", "label", "score"})
_TEXT_KEYS = ("text", "content")
_PAIR_KEYS = ("query", "document")
_RECORD_KEYS = frozenset({"id", "label", "relevant", "score", *_TEXT_KEYS, *_PAIR_KEYS})


def read(source: object, *, is_labeled: bool = False, header: bool | None = None) -> Dataset:
    """Reads a data set.

    Args:
        source: A path of a `.csv`, `.tsv` or `.jsonl` file; a list of records; a pandas or `datasets` table; or a
            `Dataset`, which is returned as it is.
        is_labeled: Whether two CSV columns are content and label rather than a pair.
        header: Whether the first CSV row holds names; None looks for `query`, `document`, `label`, `score`.

    Raises:
        DataFormatError: It cannot be read; the message names file, line and reason.

    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str | Path):
        return _read_file(Path(source).expanduser(), is_labeled, header)
    to_dict = getattr(source, "to_dict", None)
    if to_dict is not None and hasattr(source, "columns"):
        source = to_dict("records")
    elif hasattr(source, "to_list") and not isinstance(source, list):
        source = source.to_list()
    if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes):
        return from_records(source, "the records")
    raise DataFormatError(f"a {type(source).__name__} is no data set; give a path, a list of records, or a table")


def _read_file(path: Path, is_labeled: bool, header: bool | None) -> Dataset:
    if path.is_dir():
        raise DataFormatError(f"{path} is a folder; give a .csv or .jsonl file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataFormatError(f"there is no file {path}") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        _refuse(path, line, f"is not UTF-8 at byte {error.start}; save the file as UTF-8")
    except OSError as error:
        raise DataFormatError(f"{path} cannot be read: {error.strerror}") from error
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return from_records(_json_lines(path, text), str(path))
    if suffix in (".csv", ".tsv", ".txt"):
        return _from_rows(path, _csv_rows(path, text, "\t" if suffix == ".tsv" else ","), is_labeled, header)
    raise DataFormatError(f"{path}: cannot tell the format of '{suffix}'; known are .csv, .tsv and .jsonl")


def _refuse(source: object, line: int, reason: str) -> NoReturn:
    raise DataFormatError(f"{source}, line {line}: {reason}", {"line": str(line)})


def _csv_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 0
    try:
        for row in reader:
            if row:
                yield line + 1, row
            line = reader.line_num
    except csv.Error as error:
        _refuse(path, line + 1, f"is malformed CSV: {error}")


def _json_lines(path: Path, text: str) -> Iterator[object]:
    for line, row in enumerate(text.split("\n"), start=1):
        if row.strip():
            try:
                yield json.loads(row)
            except ValueError as error:
                _refuse(path, line, f"is malformed JSON: {error}")


def _from_rows(path: Path, numbered: Iterator[tuple[int, list[str]]], is_labeled: bool, header: bool | None) -> Dataset:
    rows = list(numbered)
    if rows and (header or (header is None and {cell.strip().lower() for cell in rows[0][1]} <= HEADER_NAMES)):
        names = [cell.strip().lower() for cell in rows.pop(0)[1]]
        is_labeled = is_labeled or "label" in names
    if not rows:
        raise DataFormatError(f"{path} holds no rows")
    width = len(rows[0][1])
    if width not in (2, 3) or (is_labeled and width != 2):
        wanted = "two columns, content and label," if is_labeled else "two columns, or three with a score,"
        _refuse(path, rows[0][0], f"has {width} column{'s' * (width != 1)}; {wanted} are needed")
    for line, row in rows:
        if len(row) != width:
            _refuse(path, line, f"has {len(row)} columns where the first row has {width}; quote commas in texts")
        for cell in row[: 1 if is_labeled else 2]:
            _check_text(path, line, cell)
    if is_labeled:
        return dataset.from_labelled((text, label) for _, (text, label) in rows)
    if width == 3:
        return dataset.from_scored((a, b, _score(path, line, score)) for line, (a, b, score) in rows)
    return dataset.from_pairs((a, b) for _, (a, b) in rows)


def _check_text(source: object, line: int, text: object) -> str:
    if not isinstance(text, str):
        _refuse(source, line, f"has {text!r} where a text is needed")
    if not text.strip():
        _refuse(source, line, "has an empty text")
    if "\0" in text:
        _refuse(source, line, "has a text with a NUL character; is the file binary?")
    return text


def _score(source: object, line: int, value: object) -> float:
    try:
        score = float(value)  # type: ignore[arg-type]  # whatever it is, float tells
    except (TypeError, ValueError):
        _refuse(source, line, f"has the score {value!r}, which is no number")
    if not math.isfinite(score):
        _refuse(source, line, f"has the score {value!r}, which is not finite")
    return score


def from_records(records: Iterable[object], source: str) -> Dataset:
    """Makes a data set of records.

    A record is a mapping with `text` and optionally `id`, `label` and `relevant` (grade by document id), or with
    `query` and `document` and optionally `score`.

    Raises:
        DataFormatError: A record does not fit; the message names its number.

    """
    listed = list(records)
    if not listed:
        raise DataFormatError(f"{source} holds no rows")
    rows: list[Mapping[str, object]] = []
    for number, record in enumerate(listed, start=1):
        if not isinstance(record, Mapping):
            _refuse(source, number, f"is a {type(record).__name__}, not a record with named fields")
        unknown = sorted(set(map(str, record)) - _RECORD_KEYS)
        if unknown:
            _refuse(
                source, number, f"has the unknown field '{unknown[0]}'; known are: {', '.join(sorted(_RECORD_KEYS))}"
            )
        rows.append(record)
    if all(set(_PAIR_KEYS) <= set(row) for row in rows):
        return _paired(rows, source)
    return _single(rows, source)


def _paired(rows: Sequence[Mapping[str, object]], source: str) -> Dataset:
    contents = [
        (_check_text(source, number, row["query"]), _check_text(source, number, row["document"]))
        for number, row in enumerate(rows, start=1)
    ]
    if "score" in rows[0]:
        scores = [_score(source, number, row.get("score")) for number, row in enumerate(rows, start=1)]
        return dataset.from_scored((a, b, score) for (a, b), score in zip(contents, scores, strict=True))
    return dataset.from_pairs(contents)


def _single(rows: Sequence[Mapping[str, object]], source: str) -> Dataset:
    items = []
    for number, row in enumerate(rows, start=1):
        key = next((key for key in _TEXT_KEYS if key in row), None)
        if key is None:
            _refuse(source, number, "has neither 'text' nor 'query' and 'document'")
        text = _check_text(source, number, row[key])
        relevant = row.get("relevant") or {}
        if not isinstance(relevant, Mapping):
            _refuse(source, number, f"has {relevant!r} as 'relevant', which maps document ids to grades")
        grades = {str(name): _score(source, number, grade) for name, grade in relevant.items()}
        if any(grade < 0 for grade in grades.values()):
            _refuse(source, number, "has a negative grade; grades are 0 or larger")
        label = row.get("label")
        items.append(
            Item(
                str(row.get("id", number - 1)),
                text,
                None if label is None else dataset.canonical_label(label),
                grades,
            )
        )
    doubled = dataset.duplicates([item.id for item in items])
    if doubled:
        raise DataFormatError(f"{source} has the id {doubled[0]!r} more than once; ids are unique")
    return Dataset("items", tuple(items))
