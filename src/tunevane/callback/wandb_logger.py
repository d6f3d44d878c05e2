"""WandBLogger: asks the tracker to mirror the run to Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from tunevane.callback.base import Callback


@dataclass(frozen=True)
class WandBLogger(Callback):
    """Mirrors the run to Weights & Biases; no account is needed, and an outage never slows training."""

    name: ClassVar[str] = "wandb-logger"

    metrics_logger_step: Literal["epoch", "batch"] = "epoch"
    """How often losses are logged."""

    wandb_args: Mapping[str, object] | None = None
    """Further arguments of `wandb.init`, for example `project`."""

    log_zero_shot: bool = True
    """Whether the metrics before training are logged."""
