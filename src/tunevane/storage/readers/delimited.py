"""Reads CSV and TSV: contents with labels, pairs, or pairs with scores."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from tunevane.core.dataset import Content
from tunevane.errors import DataFormatError
from tunevane.storage.readers.images import Images
from tunevane.storage.readers.place import Source
from tunevane.storage.readers.row import Row

_NAMES = frozenset({"query", "document", "label", "score"})
_ROLES: dict[frozenset[str], tuple[str, ...]] = {
    frozenset({"query", "label"}): ("query", "label"),
    frozenset({"document", "label"}): ("document", "label"),
    frozenset({"query", "document"}): ("query", "document"),
    frozenset({"query", "document", "score"}): ("query", "document", "score"),
}
"""The sets of column names that are understood, and the order in which their columns are read."""

_Numbered = Iterator[tuple[int, list[str]]]


@dataclass(frozen=True)
class _Layout:
    """What the columns mean."""

    columns: tuple[int, ...]
    """Content and label, or two contents and perhaps a score."""

    is_labeled: bool
    """Whether the second is a label."""

    has_header: bool
    """Whether the first row holds names."""


def rows(
    lines: Iterable[str], delimiter: str, source: Source, images: Images, *, is_labeled: bool, header: bool | None
) -> Iterator[Row]:
    """Lists the rows of a CSV file.

    A cell that names an image, as `Images.is_reference` tells, is an image; every other content is a text.

    Raises:
        DataFormatError: A row does not fit; the sentence names its line, the first one of a row of several lines.

    """
    numbered = _numbered(lines, delimiter, source)
    first = next(numbered, None)
    if first is None:
        raise DataFormatError(f"{source.name} is empty; at least one line of data is needed")
    first_number, cells = first
    width = len(cells)
    layout = _layout(first_number, cells, source, is_labeled, header)
    data = numbered if layout.has_header else chain([first], numbered)
    empty = True
    for number, row in data:
        empty = False
        if len(row) != width:
            source.refuse(
                number,
                f"has {len(row)} column{'s' * (len(row) != 1)} where line {first_number} has {width};"
                " put a text with a separator into double quotes",
            )
        yield _row(number, row, layout, source, images)
    if empty:
        source.refuse_empty()


def _row(number: int, row: list[str], layout: _Layout, source: Source, images: Images) -> Row:
    first, second, *score = (row[column] for column in layout.columns)
    content = _content(number, first, source, images)
    if layout.is_labeled:
        return Row(number, content, label=source.label(number, second))
    other = _content(number, second, source, images)
    return Row(number, content, other, source.number(number, score[0], "score") if score else None)


def _content(number: int, cell: str, source: Source, images: Images) -> Content:
    if images.is_reference(cell):
        return Content(image=images.add(source, number, cell))
    return Content(source.text(number, cell))


def _numbered(lines: Iterable[str], delimiter: str, source: Source) -> _Numbered:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 0
    try:
        for row in reader:
            if row and not (len(row) == 1 and not row[0].strip()):
                yield line + 1, row
            line = reader.line_num
    except csv.Error as error:
        if "field larger" in str(error) or "unexpected end" in str(error):
            source.refuse(line + 1, "has a double quote that is never closed; write a quote inside a text as two")
        source.refuse(line + 1, f"has unbalanced double quotes ({error}); write a quote inside a text as two")


def _layout(number: int, cells: list[str], source: Source, is_labeled: bool, header: bool | None) -> _Layout:
    names = [cell.strip().lower() for cell in cells]
    recognised = len(names) > 1 and len(set(names)) == len(names) and set(names) <= _NAMES
    has_header = recognised if header is None else header
    if not (has_header and recognised):
        _check_width(number, len(cells), source, is_labeled)
        return _Layout(tuple(range(len(cells))), is_labeled, has_header)
    order = _ROLES.get(frozenset(names))
    if order is None:
        wanted = "query,document or query,label or query,document,score"
        source.refuse(number, f"has the column names {','.join(names)}; use {wanted}, or header=False if it is data")
    return _Layout(tuple(names.index(name) for name in order), "label" in names, has_header)


def _check_width(number: int, width: int, source: Source, is_labeled: bool) -> None:
    if width not in ((2,) if is_labeled else (2, 3)):
        wanted = "content and label" if is_labeled else "two contents, or two contents and a score"
        source.refuse(number, f"has {width} column{'s' * (width != 1)}; needed are {wanted}")
