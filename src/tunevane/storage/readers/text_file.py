"""Reads a text file line by line, in bounded memory, and says where it is no text."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from tunevane.errors import DataFormatError
from tunevane.storage.readers.place import Source

_PIECE_BYTES = 1 << 16


def lines(path: Path, source: Source) -> Iterator[str]:
    """Lists the lines of a file with their ends, whichever of the three ends it uses.

    Raises:
        DataFormatError: It cannot be read, is not UTF-8, or has NUL characters; names the line.

    """
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, line in enumerate(file, start=1):
                if "\0" in line:
                    source.refuse(number, "has a NUL character, as binary files have; only text is read")
                yield line
    except UnicodeDecodeError:
        _complain(path, source)
    except OSError as error:
        raise DataFormatError(f"{path} cannot be read: {error.strerror}") from error
    if number == 0:
        raise DataFormatError(f"{path} is empty; at least one line of data is needed")


def _complain(path: Path, source: Source) -> None:
    """Finds the first byte that is not UTF-8; the reader above only knows where its own piece began."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    before, line = 0, 1
    with path.open("rb") as file:
        while True:
            piece = file.read(_PIECE_BYTES)
            held = decoder.getstate()[0]
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                data = held + piece
                start = before - len(held) + error.start
                line += data.count(b"\n", 0, error.start)
                source.refuse(
                    line,
                    f"is not UTF-8 at byte {start} of the file (0x{data[error.start]:02x}); save the file as UTF-8",
                )
            if not piece:
                return
            before += len(piece)
            line += piece.count(b"\n")
