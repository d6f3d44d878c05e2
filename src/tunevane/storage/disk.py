"""The few operations on a disk that decide whether a blob is whole, and what a full disk means."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunevane.errors import StorageFullError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Disk:
    """The real disk; tests put one that fails or dies between two steps in its place."""

    def write(self, handle: int, data: memoryview) -> int:
        """Writes bytes to an open file and returns how many were taken."""
        return os.write(handle, data)

    def sync(self, handle: int) -> None:
        """Waits until an open file's bytes would survive a loss of power."""
        os.fsync(handle)

    def rename(self, source: Path, target: Path) -> None:
        """Gives a file its final name, in one step that others see whole or not at all."""
        source.replace(target)

    def sync_folder(self, folder: Path) -> None:
        """Waits until a folder's names would survive a loss of power."""
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def free_bytes(self, folder: Path) -> int:
        """Returns how many bytes fit on the disk of a folder."""
        return shutil.disk_usage(folder).free


def full(path: Path, size_bytes: int) -> StorageFullError:
    """Makes the error of a disk that has no room for some bytes."""
    return StorageFullError(
        f"no space left for {size_bytes} bytes in {path}; free some space there and repeat the call",
        {"path": str(path), "size_bytes": str(size_bytes)},
    )


@contextmanager
def full_disk_named(path: Path, size_bytes: int) -> Iterator[None]:
    """Turns the system's ways to say that a disk is full into `StorageFullError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise full(path, size_bytes) from error
