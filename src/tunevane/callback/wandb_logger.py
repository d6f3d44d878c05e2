"""WandBLogger: asks the tracker to mirror the run to Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from tunevane.callback.base import Callback
from tunevane.errors import Problem

ARGUMENTS = ("entity", "group", "job_type", "name", "notes", "project", "tags")
"""Arguments of `wandb.init` that a run may choose; the others are the tracker's operator's."""

MAX_NAME_CHARACTERS = 128
"""W&B's limit for the name of a project, an entity, a group, a run."""

MAX_TAG_CHARACTERS = 64
"""W&B's limit for a tag."""

_NOT_IN_PROJECTS = "/\\#?%:"


@dataclass(frozen=True)
class WandBLogger(Callback):
    """Mirrors the run to Weights & Biases; no account is needed, and an outage never slows training."""

    name: ClassVar[str] = "wandb-logger"

    metrics_logger_step: Literal["epoch", "batch"] = "epoch"
    """How often losses are logged."""

    wandb_args: Mapping[str, object] | None = None
    """Further arguments of `wandb.init`: `entity`, `group`, `job_type`, `name`, `notes`, `project`, `tags`."""

    log_zero_shot: bool = True
    """Whether the metrics before training are logged."""

    every_n_steps: int | None = None
    """With `metrics_logger_step="batch"`: only every so many optimizer steps. None logs as many as W&B is made for."""

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the options; a value of `wandb_args` is never repeated, it may be a secret."""
        if self.every_n_steps is not None and self.every_n_steps < 1:
            yield Problem("every_n_steps", f"must be at least 1, not {self.every_n_steps}")
        if self.every_n_steps is not None and self.metrics_logger_step != "batch":
            yield Problem("every_n_steps", "needs metrics_logger_step='batch'; without it losses are logged per epoch")
        for name, value in (self.wandb_args or {}).items():
            if (problem := _problem(name, value)) is not None:
                yield Problem(f"wandb_args.{name}", problem)


def _problem(name: object, value: object) -> str | None:
    """Tells what is wrong with one argument."""
    if name not in ARGUMENTS:
        return f"cannot be chosen by a run; it may choose {', '.join(ARGUMENTS)}"
    if name == "tags":
        fits = isinstance(value, list | tuple) and all(
            isinstance(each, str) and 1 <= len(each) <= MAX_TAG_CHARACTERS for each in value
        )
        return None if fits else f"must be a list of texts of 1 to {MAX_TAG_CHARACTERS} characters"
    if not isinstance(value, str) or not value:
        return "must be a text with at least one character"
    if name != "notes" and len(value) > MAX_NAME_CHARACTERS:
        return f"has at most {MAX_NAME_CHARACTERS} characters, not {len(value)}"
    if name == "project" and any(each in value for each in _NOT_IN_PROJECTS):
        return f"must be without the characters {_NOT_IN_PROJECTS}"
    return None
