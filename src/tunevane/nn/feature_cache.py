"""What models read of data sets, kept on disk: token ids and scaled images, mapped into memory, within a size limit."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tunevane import log

# Any: arrays of any shape and type.
Array = np.ndarray[Any, np.dtype[Any]]
Arrays = Mapping[str, Array]

OpenArray = Callable[[str, tuple[int, ...], Any], Array]
"""Opens an array of a name, shape and type."""

Make = Callable[[OpenArray], None]
"""Fills arrays that it opens."""

_log = log.get("cache")

HELD = 8
"""Sets whose arrays stay open."""

DEFAULT_LIMIT_BYTES = 4_000_000_000
_LEFTOVER_SECONDS = 3600.0


class FeatureCache:
    """Arrays by key: those used last stay open, all of them lie in a folder, if there is one."""

    def __init__(
        self,
        folder: Path | None = None,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        told: Callable[[bool], None] | None = None,
    ) -> None:
        """Opens the folder and removes what a killed process left behind.

        Args:
            folder: Where arrays are kept; None keeps the last few in memory only.
            limit_bytes: Size of everything kept; the least recently used makes room.
            told: Hears at each look-up whether the arrays were there.

        """
        self._told = told
        self.limit_bytes = limit_bytes
        self._folder = folder
        self._held: OrderedDict[str, Arrays] = OrderedDict()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob("new-*"):
                with suppress(FileNotFoundError):
                    if leftover.stat().st_mtime < time.time() - _LEFTOVER_SECONDS:
                        shutil.rmtree(leftover, ignore_errors=True)

    def get(self, key: str, make: Make) -> Arrays:
        """Returns the arrays of a key, made only when they are nowhere.

        Args:
            key: Names everything that the arrays depend on.
            make: Fills the arrays.

        """
        found = self._held.get(key)
        if found is None:
            found = self._open(key)
        if self._told is not None:
            self._told(found is not None)
        if found is None:
            found = self._make(key, make)
        self._held[key] = found
        self._held.move_to_end(key)
        while len(self._held) > HELD:
            self._held.popitem(last=False)
        return found

    def _open(self, key: str) -> Arrays | None:
        if self._folder is None or not (self._folder / key).is_dir():
            return None
        try:
            found = {path.stem: np.load(path, mmap_mode="r") for path in (self._folder / key).glob("*.npy")}
            os.utime(self._folder / key)
        except (OSError, ValueError) as error:
            _log.warning("dropping damaged features key=%s why=%s", key, error)
            shutil.rmtree(self._folder / key, ignore_errors=True)
            return None
        return found

    def _make(self, key: str, make: Make) -> Arrays:
        made: dict[str, Array] = {}
        folder = None if self._folder is None else self._folder / f"new-{uuid.uuid4().hex}"

        def opened(name: str, shape: tuple[int, ...], kind: Any) -> Array:  # Any: whatever numpy takes as a type
            made[name] = np.empty(shape, kind) if folder is None else _mapped(folder / f"{name}.npy", shape, kind)
            return made[name]

        try:
            make(opened)
            if folder is not None:
                self._keep(key, folder, made)
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
        return made

    def _keep(self, key: str, folder: Path, made: Arrays) -> None:
        """Gives arrays their place; without room for them they only live as long as they are used."""
        assert self._folder is not None
        try:
            folder.mkdir(exist_ok=True)
            for name, array in made.items():
                if isinstance(array, np.memmap):
                    array.flush()
                else:
                    np.save(folder / f"{name}.npy", array)
            if not (self._folder / key).exists():  # another process may have been faster, with the same arrays
                folder.rename(self._folder / key)
        except OSError as error:
            _log.warning("features are not kept key=%s why=%s", key, error)
        self._make_room(key)

    def _make_room(self, newest: str) -> None:
        """Removes the least recently used, and the newest last; arrays in use stay readable until nobody uses them."""
        assert self._folder is not None
        entries = []
        for folder in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if not folder.name.startswith("new-"):
                    size = sum(path.stat().st_size for path in folder.iterdir())
                    entries.append((folder.name == newest, folder.stat().st_mtime, size, folder))
        excess = sum(size for _, _, size, _ in entries) - self.limit_bytes
        for _, _, size, folder in sorted(entries):
            if excess <= 0:
                return
            shutil.rmtree(folder, ignore_errors=True)
            excess -= size


def _mapped(path: Path, shape: tuple[int, ...], kind: Any) -> Array:  # Any: whatever numpy takes as a type
    """Opens an array in a new file, or in memory where it is empty or the disk is full."""
    if 0 in shape:  # an empty file cannot be mapped
        return np.empty(shape, kind)
    path.parent.mkdir(exist_ok=True)
    array: Array = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
    if hasattr(os, "posix_fallocate"):
        try:
            # Whoever writes to a mapped page for which the disk has no room is killed.
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            _log.warning("features are held in memory path=%s why=%s", path, error)
            path.unlink()
            return np.empty(shape, kind)
    return array
