"""Reads CSV and TSV: contents with labels, pairs, or pairs with scores."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from tunevane.core import dataset
from tunevane.core.dataset import Dataset
from tunevane.storage.readers.place import Source

_NAMES = frozenset({"query", "document", "label", "score"})
_ROLES: dict[frozenset[str], tuple[str, ...]] = {
    frozenset({"query", "label"}): ("query", "label"),
    frozenset({"document", "label"}): ("document", "label"),
    frozenset({"query", "document"}): ("query", "document"),
    frozenset({"query", "document", "score"}): ("query", "document", "score"),
}
"""The sets of column names that are understood, and the order in which their columns are read."""

_Rows = list[tuple[int, list[str]]]


def dataset_of(text: str, delimiter: str, source: Source, *, is_labeled: bool, header: bool | None) -> Dataset:
    """Makes a data set of a CSV file's text, which is not blank.

    Raises:
        DataFormatError: A row does not fit; the sentence names its line, the first one of a row of several lines.

    """
    rows = list(_rows(text, delimiter, source))
    first_number, first_row = rows[0]
    width = len(first_row)
    columns, is_labeled = _columns(rows, source, is_labeled, header)
    if not rows:
        source.refuse_empty()
    if columns is None:
        _check_width(first_number, width, source, is_labeled)
        columns = list(range(width))
    for number, row in rows:
        if len(row) != width:
            source.refuse(
                number,
                f"has {len(row)} column{'s' * (len(row) != 1)} where line {first_number} has {width};"
                " put a text with a separator into double quotes",
            )
    if is_labeled:
        content, label = columns
        return dataset.from_labelled((source.text(n, row[content]), source.label(n, row[label])) for n, row in rows)
    first, second, *score = columns
    if score:
        return dataset.from_scored(
            (source.text(n, row[first]), source.text(n, row[second]), source.number(n, row[score[0]], "score"))
            for n, row in rows
        )
    return dataset.from_pairs((source.text(n, row[first]), source.text(n, row[second])) for n, row in rows)


def _rows(text: str, delimiter: str, source: Source) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 0
    try:
        for row in reader:
            if row:
                yield line + 1, row
            line = reader.line_num
    except csv.Error as error:
        if "field larger" in str(error) or "unexpected end" in str(error):
            source.refuse(line + 1, "has a double quote that is never closed; write a quote inside a text as two")
        source.refuse(line + 1, f"has unbalanced double quotes ({error}); write a quote inside a text as two")


def _columns(rows: _Rows, source: Source, is_labeled: bool, header: bool | None) -> tuple[list[int] | None, bool]:
    """Takes the header away from the rows, if there is one.

    Returns:
        The columns in the order in which they are read, None where names do not tell; and whether one is a label.

    """
    number, cells = rows[0]
    names = [cell.strip().lower() for cell in cells]
    recognised = len(names) > 1 and len(set(names)) == len(names) and set(names) <= _NAMES
    if not (recognised if header is None else header):
        return None, is_labeled
    del rows[0]
    if not recognised:
        return None, is_labeled
    order = _ROLES.get(frozenset(names))
    if order is None:
        wanted = "query,document or query,label or query,document,score"
        source.refuse(number, f"has the column names {','.join(names)}; use {wanted}, or header=False if it is data")
    return [names.index(name) for name in order], "label" in names


def _check_width(number: int, width: int, source: Source, is_labeled: bool) -> None:
    if width not in ((2,) if is_labeled else (2, 3)):
        wanted = "content and label" if is_labeled else "two contents, or two contents and a score"
        source.refuse(number, f"has {width} column{'s' * (width != 1)}; needed are {wanted}")
