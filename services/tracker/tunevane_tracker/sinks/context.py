"""What a sink is built from: the tracker's parts that it may use, and a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tunevane import plugins
from tunevane.errors import ConfigurationError, NotFoundError
from tunevane_tracker.book import Book
from tunevane_tracker.config import TrackerConfig
from tunevane_tracker.cursors import Cursors
from tunevane_tracker.journal import TrackedRun
from tunevane_tracker.notices import Notices
from tunevane_tracker.sinks.port import Sink

ALWAYS = ("prometheus", "wandb")
"""Sinks that every tracker has; the settings name further ones."""


def _nobody(run: TrackedRun) -> None:
    """Stands where nothing is to be done."""


@dataclass(frozen=True)
class SinkContext:
    """Passed to the function that an entry point of the group `tunevane.sinks` names; it returns the sink."""

    config: TrackerConfig
    """Settings of the tracker."""

    environ: Mapping[str, str]
    """The operator's environment."""

    book: Book
    """Folded states of runs."""

    cursors: Cursors
    """How far each sink is."""

    notices: Notices
    """Lines for the logs of runs."""

    name: str = ""
    """Name of the sink, as registered."""

    folder: Path = Path()
    """Where the sink keeps its files; nobody else uses it, and it may not exist yet."""

    offer: Callable[[TrackedRun], None] = _nobody
    """Has a run's events delivered from where the sink's `position` says, in a moment."""

    stop: Callable[[TrackedRun], None] = _nobody
    """Cancels a run, because somebody asked for it where it is shown."""


def build(context: SinkContext, offer: Callable[[str, TrackedRun], None]) -> list[Sink]:
    """Builds the sinks that the settings name, in order.

    Args:
        context: Each sink gets a copy with its own name, folder and `offer`.
        offer: Offers a run to the sink of a name.

    Raises:
        ConfigurationError: There is no such sink, or its package is not installed.

    """
    root = context.config.sinks_dir or context.config.state_dir / "sinks"
    sinks: list[Sink] = []
    for name in dict.fromkeys([*ALWAYS, *context.config.sinks]):
        try:
            make = plugins.load("sinks", name)
        except NotFoundError as error:
            raise ConfigurationError(f"sinks: {error.message}") from error
        assert callable(make)
        sinks.append(make(replace(context, name=name, folder=root / name, offer=partial(offer, name))))
    return sinks
