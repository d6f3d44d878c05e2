"""What callbacks with a `confidence` share: the check of the option, and the values that they decide from."""

from __future__ import annotations

from collections.abc import Iterator

from tunevane.callback.base import Measurements
from tunevane.core.epoch_values import EpochValues
from tunevane.errors import Problem


def confidence_problems(confidence: float | None) -> Iterator[Problem]:
    """Yields what is wrong with a confidence."""
    if confidence is not None and not 0.0 < confidence < 1.0:
        yield Problem("confidence", f"must lie between 0 and 1, for example 0.95, not {confidence}")


def values_by_query(measured: Measurements, metric: str, epoch: int) -> EpochValues | None:
    """Returns the values of a metric by query; None where this epoch has none."""
    if metric not in measured or metric not in measured.per_query:
        return None
    return EpochValues.of(epoch, measured[metric], measured.per_query[metric])
