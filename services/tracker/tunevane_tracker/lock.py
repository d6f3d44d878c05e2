"""Keeps a state folder to one process."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunevane.errors import ConfigurationError


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Holds a folder, which is made if it is not there; the system lets go when the process dies.

    Raises:
        ConfigurationError: Another process holds it, or it cannot be made.

    """
    try:
        # Links that claim anonymous runs are in there.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (folder / "lock").open("a")
    except OSError as error:
        raise ConfigurationError(f"state_dir {folder} cannot be used: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(f"another tracker uses the state_dir {folder}; choose another one") from error
        yield
