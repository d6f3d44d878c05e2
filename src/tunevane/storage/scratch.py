"""A file on its way to becoming a blob."""

from __future__ import annotations

import os
from pathlib import Path

from blake3 import blake3

from tunevane.storage.disk import Disk, full_disk_named


class Scratch:
    """A file that is written, and hashed on the way if `hashed`, before it gets its final name."""

    def __init__(self, disk: Disk, path: Path, *, hashed: bool = True) -> None:
        self._disk = disk
        self.path = path
        self.hasher = blake3()
        self._hashed = hashed
        self.size = 0
        with full_disk_named(path.parent, 0):
            self._handle: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)

    def append(self, data: bytes | memoryview) -> None:
        """Takes the next bytes.

        Raises:
            StorageFullError: The disk is full.

        """
        assert self._handle is not None
        rest = memoryview(data).cast("B")
        if self._hashed:
            self.hasher.update(rest)
        with full_disk_named(self.path.parent, self.size + len(rest)):
            while rest:
                taken = self._disk.write(self._handle, rest)
                self.size += taken
                rest = rest[taken:]

    def finish(self) -> None:
        """Waits until the bytes would survive a loss of power, and takes no more."""
        assert self._handle is not None
        self._disk.sync(self._handle)
        self.close()

    def close(self) -> None:
        """Takes no more bytes; the file stays."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def remove(self) -> None:
        """Removes the file, unless it has its final name already."""
        self.close()
        self.path.unlink(missing_ok=True)
