"""Fine-tune embedding models for search, steered by retrieval metrics.

Importing this package imports neither torch nor grpc; names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunevane import aio, errors, runfile
    from tunevane.client.run import Run
    from tunevane.evaluation import Evaluation, evaluate
    from tunevane.session import (
        connect,
        delete_dataset,
        delete_run,
        describe_models,
        fit,
        get_run,
        list_callbacks,
        list_datasets,
        list_losses,
        list_metrics,
        list_models,
        list_runs,
        push_dataset,
    )
    from tunevane.steering import Outcome, Steering, Verdict, steer

__version__ = "0.1.0"

_PLACES = {
    "Evaluation": "tunevane.evaluation",
    "Outcome": "tunevane.steering",
    "Run": "tunevane.client.run",
    "Steering": "tunevane.steering",
    "Verdict": "tunevane.steering",
    "evaluate": "tunevane.evaluation",
    "steer": "tunevane.steering",
}
"""Where names live that are not in `tunevane.session`."""

_MODULES = ("aio", "errors", "runfile")
"""Modules that need no import of their own."""

__all__ = [
    "Evaluation",
    "Outcome",
    "Run",
    "Steering",
    "Verdict",
    "aio",
    "connect",
    "delete_dataset",
    "delete_run",
    "describe_models",
    "errors",
    "evaluate",
    "fit",
    "get_run",
    "list_callbacks",
    "list_datasets",
    "list_losses",
    "list_metrics",
    "list_models",
    "list_runs",
    "push_dataset",
    "runfile",
    "steer",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'tunevane' has no attribute '{name}'")
    if name in _MODULES:
        return import_module(f"tunevane.{name}")
    return getattr(import_module(_PLACES.get(name, "tunevane.session")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
