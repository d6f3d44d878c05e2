"""Exports a run: whole or not at all, and never over something else by accident."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunevane.errors import ConfigurationError, InvalidRequestError, Problem, StorageFullError
from tunevane_tracker.export import jsonl, openmetrics, parquet, tensorboard
from tunevane_tracker.export.source import Source


@dataclass(frozen=True)
class Format:
    """A way to write a run."""

    ending: str
    """What the name of its file ends in."""

    write: Callable[[Source, Path], None]
    """Writes to a path that does not exist."""

    package: str | None = None
    """What has to be installed for it; None for nothing."""

    extra: str = ""
    """The extra that installs it."""

    private: bool = False
    """Whether only its owner may read it: logs of anonymous W&B runs hold the link that claims them."""


FORMATS: Mapping[str, Format] = {
    "jsonl": Format(".jsonl", jsonl.write, private=True),
    "openmetrics": Format(".openmetrics", openmetrics.write),
    "parquet": Format(".parquet", parquet.write, "pyarrow", "parquet", private=True),
    "tensorboard": Format(".tensorboard", tensorboard.write, "tensorboard", "tensorboard"),
}


def check(name: str) -> Format:
    """Returns a format.

    Raises:
        InvalidRequestError: There is none of that name.
        ConfigurationError: Its package is not installed.

    """
    if name not in FORMATS:
        raise InvalidRequestError([Problem("format", f"must be one of {', '.join(sorted(FORMATS))}, not {name!r}")])
    chosen = FORMATS[name]
    if chosen.package is not None and importlib.util.find_spec(chosen.package) is None:
        raise ConfigurationError(
            f"the format {name} needs the package {chosen.package}; install tunevane[{chosen.extra}]"
        )
    return chosen


def export(source: Source, chosen: Format, path: Path, *, replace: bool = False) -> None:
    """Writes a run to a path, in one step.

    Args:
        source: The run.
        chosen: How to write it.
        path: Where to; its folder exists.
        replace: Whether something that is there may be overwritten.

    Raises:
        ConfigurationError: Something is there already, or the folder cannot be written.
        StorageFullError: The disk is full.

    """
    if path.exists() and not replace:
        raise ConfigurationError(f"{path} exists already; choose another --output, or overwrite it with --force")
    if path.is_dir() and not _holds_only(path, "events.out.tfevents."):
        raise ConfigurationError(
            f"{path} is a folder with other files in it, which are not removed; choose another --output"
        )
    try:
        with tempfile.TemporaryDirectory(prefix=".tunevane-", dir=path.parent) as folder:
            made = Path(folder) / "made"
            chosen.write(source, made)
            if chosen.private:
                made.chmod(0o600)
            if path.is_dir():
                shutil.rmtree(path)
            os.replace(made, path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StorageFullError(f"the disk of {path.parent} is full; nothing was left of the export") from error
        raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}") from error


def _holds_only(folder: Path, beginning: str) -> bool:
    """Tells whether the name of every file below a folder begins like this."""
    return all(each.name.startswith(beginning) for each in folder.rglob("*") if not each.is_dir())
