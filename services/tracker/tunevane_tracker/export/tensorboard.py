"""TensorBoard event files, as the sink `tensorboard` writes them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from tunevane_tracker.export.source import Source

BATCH = 1000


def write(source: Source, path: Path) -> None:
    """Writes a run into a folder, `tensorboard --logdir` of which shows it."""
    from tunevane_tracker.sinks.tensorboard import TensorBoardWriter

    path.mkdir()
    writer = TensorBoardWriter(path, {})
    writer.open(source.run)
    events = iter(source.events)
    while batch := list(islice(events, BATCH)):
        writer.write(source.run, batch)
    writer.close(source.run)
