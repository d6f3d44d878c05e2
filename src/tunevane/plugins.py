"""Finds components by entry point; our own are registered the same way as anybody's.

Groups: `tunevane.callbacks`, `tunevane.losses`, `tunevane.models`, `tunevane.metrics`, `tunevane.sinks`.
A name that comes from a client is looked up here and never imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from tunevane.errors import ConfigurationError, NotFoundError


@cache
def _registered(group: str) -> Mapping[str, str]:
    """Maps each name of a group to the object it stands for, `module:attribute`, without importing it."""
    found: dict[str, str] = {}
    for entry in entry_points(group=f"tunevane.{group}"):
        if found.setdefault(entry.name, entry.value) != entry.value:
            raise ConfigurationError(
                f"two installed packages register the {group[:-1]} '{entry.name}': "
                f"{found[entry.name]} and {entry.value}; uninstall one of them"
            )
    return found


def names(group: str) -> list[str]:
    """Lists the registered names of a group, sorted."""
    return sorted(_registered(group))


def load(group: str, name: str) -> object:
    """Imports and returns one component.

    Raises:
        NotFoundError: Nothing of that name is registered; the message lists what is.

    """
    if name not in _registered(group):
        raise NotFoundError(f"unknown {group[:-1]} '{name}'; registered are: {', '.join(names(group))}")
    (entry,) = {entry for entry in entry_points(group=f"tunevane.{group}") if entry.name == name}
    component: object = entry.load()
    return component


def load_all(group: str) -> dict[str, object]:
    """Imports every component of a group, by name, sorted."""
    return {name: load(group, name) for name in names(group)}
