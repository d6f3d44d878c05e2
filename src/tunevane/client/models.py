"""The models that runs can name, described for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from tunevane.api.trainer.v1 import trainer_service_pb2
from tunevane.core import specs
from tunevane.errors import InvalidRequestError, Problem


@dataclass(frozen=True)
class ModelDescription:
    """A model, described."""

    name: str
    """Registered name."""

    tasks: tuple[str, ...]
    """What it compares: `text-to-text`, `image-to-image`, `text-to-image`, or several of these."""

    dimensions: int | None
    """Dimensions of its vectors; None where they depend on options or files."""

    summary: str
    """One sentence."""

    options: Mapping[str, object]
    """JSON Schema of each option of `model_options`, by name."""


def descriptions(
    components: Iterable[trainer_service_pb2.ComponentInfo], task: str | None = None
) -> list[ModelDescription]:
    """Describes the models for a task, or all.

    Raises:
        InvalidRequestError: No model is for this task; lists the tasks.

    """
    every = [
        ModelDescription(
            each.name,
            tuple(each.task.split(", ")),
            each.dimensions or None,
            each.summary,
            json.loads(each.options_schema).get("properties", {}),
        )
        for each in components
    ]
    tasks = {each for model in every for each in model.tasks}
    if task is not None and task not in tasks:
        raise InvalidRequestError([Problem("task", specs.unknown("task", task, tasks))])
    return [model for model in every if task is None or task in model.tasks]


def models_table(models: Sequence[ModelDescription]) -> Table:
    """Shows name, tasks, dimensions, options and summary of each."""
    table = Table(title="Models", title_justify="left", show_lines=True)
    for column in ("model", "compares", "dimensions", "options", "what it is"):
        table.add_column(column, overflow="fold", justify="right" if column == "dimensions" else "left")
    for model in models:
        dimensions = "by options" if model.dimensions is None else str(model.dimensions)
        cells = [model.name, ", ".join(model.tasks), dimensions, ", ".join(model.options), model.summary]
        table.add_row(*(Text(cell) for cell in cells))
    return table
