"""Which metric a callback watches, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

Mode = Literal["min", "max"]

ALIASES = {"loss": "train_loss"}


def direction(metric: str) -> Mode:
    """Tells which way a metric improves: losses shrink, everything else that is measured here grows."""
    return "min" if metric == "loss" or metric.endswith("_loss") else "max"


def resolve(monitor: str, measured: Iterable[str]) -> str:
    """Finds the full name that a monitor stands for.

    Args:
        monitor: A full name, an alias, or an unambiguous suffix of a full name that starts after a `_`.
        measured: The full names that a run measures.

    Raises:
        ValueError: Nothing or more than one thing is meant; the message lists what is measured.

    """
    names = sorted(set(measured))
    wanted = ALIASES.get(monitor, monitor)
    if wanted in names:
        return wanted
    matches = [name for name in names if name.endswith(f"_{wanted}")]
    if len(matches) == 1:
        return matches[0]
    listing = ", ".join(names) if names else "nothing"
    if matches:
        raise ValueError(f"'{monitor}' could be {' or '.join(matches)}; write the full name")
    raise ValueError(f"nothing in this run measures '{monitor}'; measured are: {listing}")


def improves(value: float, reference: float, mode: Mode, min_delta: float = 0.0) -> bool:
    """Tells whether a value is strictly better than a reference by more than `min_delta`; NaN never is."""
    if math.isnan(value):
        return False
    if mode == "min":
        return value + min_delta < reference
    return value - min_delta > reference


def worst(mode: Mode) -> float:
    """Returns the value that everything improves on."""
    return math.inf if mode == "min" else -math.inf
