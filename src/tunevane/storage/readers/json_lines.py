"""Reads JSON lines: one object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tunevane.storage.readers.place import Source


def rows(text: str, source: Source) -> Iterator[tuple[int, object]]:
    """Lists line number and value of every line that is not blank.

    Raises:
        DataFormatError: A line is malformed.

    """
    # Not splitlines: JSON strings may hold U+2028 and other characters that it takes for ends of lines.
    for number, line in enumerate(text.split("\n"), start=1):
        if line and not line.isspace():
            try:
                value: object = json.loads(line)
            except (ValueError, RecursionError) as error:
                source.refuse(number, f"is malformed JSON: {error}")
            yield number, value
