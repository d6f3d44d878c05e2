"""How an epoch stands against another, query by query: better, worse, or not to be told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunevane.core.monitor import Mode
from tunevane.core.statistics import Floats, compare
from tunevane.errors import InvalidRequestError

Standing = Literal["improved", "worse", "undecided"]


@dataclass(frozen=True)
class Evidence:
    """How an epoch stands against a reference; positive differences are better, whatever the metric's direction."""

    standing: Standing
    """`improved`: the whole interval lies above `min_delta`; `worse`: it lies below it; else `undecided`."""

    difference: float
    """Mean difference over queries."""

    low: float
    """Lower end of the bootstrap interval."""

    high: float
    """Upper end of the bootstrap interval."""

    min_delta: float
    """What an improvement has to exceed."""

    confidence: float
    """Level of the interval."""

    def sentence(self) -> str:
        """Says it to a person."""
        interval = f"{self.difference:+.4f} (between {self.low:+.4f} and {self.high:+.4f})"
        return {
            "improved": f"better by {interval}",
            "worse": f"not better by more than {self.min_delta:g}: {interval}",
            "undecided": f"not to be told apart: {interval}",
        }[self.standing]


def judge(
    current: Floats,
    reference: Floats,
    *,
    mode: Mode,
    confidence: float,
    seed: int,
    min_delta: float = 0.0,
    resamples: int = 2_000,
) -> Evidence:
    """Compares an epoch's per-query values [q] with a reference's [q] by a paired bootstrap.

    Args:
        current: Values of this epoch.
        reference: Values of the epoch to beat, the same queries in the same order.
        mode: Which way is better.
        confidence: Level of the two-sided interval, in (0, 1).
        seed: Equal seeds give equal evidence, to the bit.
        min_delta: An improvement has to be larger than this; finite and not negative.
        resamples: Resamples of the bootstrap.

    Raises:
        InvalidRequestError: The queries differ in number, a value is not finite, or an option is out of range.

    """
    if not 0.0 <= min_delta < float("inf"):
        raise InvalidRequestError(f"min_delta must be finite and at least 0, got {min_delta}")
    better, worse = (reference, current) if mode == "min" else (current, reference)
    key = "the monitored metric"
    found = compare({key: better}, {key: worse}, seed=seed, resamples=resamples, confidence=confidence)[key]
    standing: Standing = "undecided"
    if found.low > min_delta:
        standing = "improved"
    elif found.high < min_delta:
        standing = "worse"
    return Evidence(standing, found.difference, found.low, found.high, min_delta, confidence)
