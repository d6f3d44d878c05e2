"""Fine-tune embedding models for search, steered by retrieval metrics.

Importing this package imports neither torch nor grpc; names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunevane import errors
    from tunevane.client.run import Run
    from tunevane.session import (
        connect,
        delete_dataset,
        delete_run,
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

__version__ = "0.1.0"

__all__ = [
    "Run",
    "connect",
    "delete_dataset",
    "delete_run",
    "errors",
    "fit",
    "get_run",
    "list_callbacks",
    "list_datasets",
    "list_losses",
    "list_metrics",
    "list_models",
    "list_runs",
    "push_dataset",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'tunevane' has no attribute '{name}'")
    if name == "errors":
        return import_module("tunevane.errors")
    module = "tunevane.client.run" if name == "Run" else "tunevane.session"
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
