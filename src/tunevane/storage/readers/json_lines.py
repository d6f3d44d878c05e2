"""Reads JSON lines: one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from tunevane.storage.readers.place import Source


def rows(lines: Iterable[str], source: Source) -> Iterator[tuple[int, object]]:
    """Lists line number and value of every line that is not blank.

    Raises:
        DataFormatError: A line is malformed.

    """
    for number, line in enumerate(lines, start=1):
        if not line.isspace():
            try:
                value: object = json.loads(line)
            except (ValueError, RecursionError) as error:
                source.refuse(number, f"is malformed JSON: {error}")
            yield number, value
