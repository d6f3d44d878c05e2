"""Where a row was found, and the complaints that name it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NoReturn

from tunevane.core import dataset
from tunevane.errors import DataFormatError, InvalidRequestError


@dataclass(frozen=True)
class Source:
    """What is being read, as complaints name it."""

    name: str
    """A path, or for example `the list`."""

    unit: str
    """What its rows are: `line`, `record` or `row`."""

    def refuse(self, number: int, reason: str) -> NoReturn:
        """Complains about one row, counted from 1.

        Raises:
            DataFormatError: Always.

        """
        raise DataFormatError(f"{self.name}, {self.unit} {number}: {reason}", {self.unit: str(number)})

    def refuse_empty(self) -> NoReturn:
        """Complains that there is nothing to read.

        Raises:
            DataFormatError: Always.

        """
        raise DataFormatError(f"{self.name} has no {self.unit}s of data; at least one is needed")

    def text(self, number: int, value: object) -> str:
        """Returns a content if it is a text with something in it."""
        if not isinstance(value, str):
            self.refuse(number, f"has {shown(value)} where a text is needed")
        if not value or value.isspace():
            self.refuse(number, "has an empty text")
        self.check_characters(number, value)
        return value

    def check_characters(self, number: int, value: str) -> None:
        """Refuses what cannot be written as UTF-8 or is a sign of binary data."""
        if "\0" in value:
            self.refuse(number, "has a NUL character, as binary files have; only text is read")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                self.refuse(number, "has half of a surrogate pair, which is no character; repair the escape \\ud...")

    def label(self, number: int, value: object) -> str:
        """Returns the canonical form of a label."""
        try:
            label = dataset.canonical_label(value)
        except InvalidRequestError as error:
            self.refuse(number, error.message)
        if not label:
            self.refuse(number, "has an empty label")
        self.check_characters(number, label)
        return label

    def number(self, number: int, value: object, what: str) -> float:
        """Returns a score or a grade if it is a finite number."""
        if isinstance(value, bool):
            self.refuse(number, f"has the {what} {value}, which is no number")
        try:
            found = float(value)  # type: ignore[arg-type]  # float itself tells what it accepts
        except (TypeError, ValueError, OverflowError):
            self.refuse(number, f"has the {what} {shown(value)}, which is no number")
        if not math.isfinite(found):
            self.refuse(number, f"has the {what} {shown(value)}, which is not finite")
        return found


def shown(value: object) -> str:
    """Writes a value for a complaint, cut to a length that a person reads."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
